// The shape of the K/V cache's heads and pages, for every kernel that reads or writes it: the defines of shaders/include/kv-cache.wgsl.
import { assert } from "../assert";
import type { Defines } from "../gpu/preprocess";

export interface CachedHeads {
  readonly headCount: number;
  /** Divides headCount: query heads g·n to g·n + n − 1 share key and value head g. */
  readonly kvHeadCount: number;
  /** A multiple of 16, up to 256. */
  readonly headDim: number;
  /** Positions in a page, a multiple of 16. */
  readonly pageSize: number;
  readonly kvFormat: "f32" | "f16";
  /** Words between the page tables of two slots; 0, the default, if there is one slot. */
  readonly tableStride?: number;
}

export function cachedHeadDefines({ headCount, kvHeadCount, headDim, pageSize, kvFormat }: CachedHeads): Defines {
  assert(headDim % 16 === 0 && headDim <= 256, `heads of ${headDim} dimensions; they must be a multiple of 16, up to 256`);
  assert(headCount % kvHeadCount === 0, `${headCount} query heads do not share ${kvHeadCount} key heads evenly`);
  assert(pageSize % 16 === 0, `pages of ${pageSize} positions; they must be a multiple of 16`);
  return { HEAD_COUNT: headCount, KV_HEAD_COUNT: kvHeadCount, HEAD_DIM: headDim, PAGE_SIZE: pageSize, KV_FORMAT: kvFormat };
}
