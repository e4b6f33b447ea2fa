// Marks the tests that read ../shared, which is not part of a clone: `npm run test:shared` runs these alone. See needed-files.ts.
export const SHARED_TAG = "shared";
/** Matches the source of a test that names a file of ../shared. */
export const NAMES_SHARED = /["'`]\.\.\/shared/;
