// Marks the tests that read ../shared, which is not part of a clone: `npm run test:shared` runs these alone. See needed-files.ts.
export const SHARED_TAG = "shared";
