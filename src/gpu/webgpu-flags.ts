// WebGPU's bit flags as numbers. A browser has them as globals; in Node they are there only if somebody put them there.
// The values are the specification's: https://www.w3.org/TR/webgpu/#typedefdef-gpubufferusageflags

export const BUFFER_USAGE = {
  MAP_READ: 0x1,
  MAP_WRITE: 0x2,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;

export const MAP_MODE = { READ: 0x1, WRITE: 0x2 } as const;

export const SHADER_STAGE = { COMPUTE: 0x4 } as const;
