// A weight matrix on the GPU in one of the canonical layouts. It is split by rows where a device cannot bind all of it.
import { assert, present } from "../assert";
import { alignBinding, type GpuTensor, type TrackedBuffer } from "../gpu/buffer";
import type { Gpu } from "../gpu/device";
import type { Upload } from "../gpu/uploads";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import { type PackedMatrix, rowCodeBytes, rowScaleBytes, type WeightFormat } from "../weight-format";

export interface MatrixShape {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
}

/** Rows [firstRow, firstRow + rowCount) of a matrix. */
export interface RowRange {
  readonly firstRow: number;
  readonly rowCount: number;
}

/** A part that one dispatch can bind. */
export interface MatrixPart extends RowRange {
  readonly codes: GpuTensor;
  /** A view of the codes if the format has no scales. Kernels of such formats do not declare the binding. */
  readonly scales: GpuTensor;
}

/** Parts, and the ranges bound of them, begin at multiples of this many rows: in every format a multiple of a binding's alignment. */
export const ROW_ALIGNMENT = 64;

/** Splits a matrix into parts that fit the largest binding, given in bytes. Nearly every matrix is one part. */
export function splitRows(shape: MatrixShape, maxBindingBytes: number): readonly RowRange[] {
  const fitting = Math.floor(maxBindingBytes / rowCodeBytes(shape.format, shape.columns));
  if (fitting >= shape.rows) return [{ firstRow: 0, rowCount: shape.rows }];
  const partRows = Math.floor(fitting / ROW_ALIGNMENT) * ROW_ALIGNMENT;
  assert(partRows > 0, `rows of ${shape.columns} ${shape.format} weights outgrow a binding of ${maxBindingBytes} bytes`);
  const parts: RowRange[] = [];
  for (let firstRow = 0; firstRow < shape.rows; firstRow += partRows) {
    parts.push({ firstRow, rowCount: Math.min(partRows, shape.rows - firstRow) });
  }
  return parts;
}

export class GpuMatrix implements MatrixShape {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
  readonly parts: readonly MatrixPart[];
  readonly #gpu: Gpu;
  readonly #buffers: readonly TrackedBuffer[];

  /** Allocates the matrix; `write` fills it. The caller owns it until it hands it over. */
  constructor(gpu: Gpu, label: string, shape: MatrixShape) {
    this.#gpu = gpu;
    this.format = shape.format;
    this.rows = shape.rows;
    this.columns = shape.columns;
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_DST | BUFFER_USAGE.COPY_SRC;
    const buffers: TrackedBuffer[] = [];
    this.parts = splitRows(shape, gpu.maxBindingBytes).map(({ firstRow, rowCount }) => {
      const codeBytes = rowCount * rowCodeBytes(shape.format, shape.columns);
      const scaleBytes = rowCount * rowScaleBytes(shape.format, shape.columns);
      const scaleOffset = alignBinding(codeBytes);
      const buffer = gpu.createBuffer(`${label}[${firstRow}]`, scaleBytes > 0 ? scaleOffset + scaleBytes : codeBytes, "weights", usage);
      buffers.push(buffer);
      const codes = buffer.view(0, codeBytes);
      return { firstRow, rowCount, codes, scales: scaleBytes > 0 ? buffer.view(scaleOffset, scaleBytes) : codes };
    });
    this.#buffers = buffers;
  }

  get bytes(): number {
    return this.#buffers.reduce((sum, buffer) => sum + buffer.bytes, 0);
  }

  /** Bindings of a part's rows, beginning at a multiple of `ROW_ALIGNMENT`. */
  rowTensors(partIndex: number, rowOffset: number, rowCount: number): { readonly codes: GpuTensor; readonly scales: GpuTensor } {
    const part = present(this.parts[partIndex], `part ${partIndex} of ${this.parts.length}`);
    assert(rowOffset % ROW_ALIGNMENT === 0, `rows bound from ${rowOffset} on`);
    const rowsOf = ({ buffer, offset }: GpuTensor, rowBytes: number) => ({
      buffer,
      offset: offset + rowOffset * rowBytes,
      bytes: rowCount * rowBytes,
    });
    const codes = rowsOf(part.codes, rowCodeBytes(this.format, this.columns));
    const scaleBytes = rowScaleBytes(this.format, this.columns);
    return { codes, scales: scaleBytes > 0 ? rowsOf(part.scales, scaleBytes) : codes };
  }

  /** Writes packed rows; the first goes to `firstRow`. Throws as `Uploads.write` does. */
  async write(firstRow: number, packed: PackedMatrix, signal?: AbortSignal): Promise<void> {
    assert(packed.format === this.format && packed.columns === this.columns, "packed rows of another format or width");
    assert(firstRow + packed.rows <= this.rows, `rows ${firstRow} to ${firstRow + packed.rows} of ${this.rows}`);
    const codeBytes = rowCodeBytes(this.format, this.columns);
    const scaleBytes = rowScaleBytes(this.format, this.columns);
    const uploads: Upload[] = [];
    for (const part of this.parts) {
      const start = Math.max(firstRow, part.firstRow);
      const count = Math.min(firstRow + packed.rows, part.firstRow + part.rowCount) - start;
      if (count <= 0) continue;
      const into = start - part.firstRow;
      const from = start - firstRow;
      const rowsOf = ({ buffer, offset }: GpuTensor, values: PackedMatrix["codes"], rowBytes: number): Upload => ({
        buffer,
        offset: offset + into * rowBytes,
        bytes: new Uint8Array(values.buffer, values.byteOffset + from * rowBytes, count * rowBytes),
      });
      uploads.push(rowsOf(part.codes, packed.codes, codeBytes));
      if (scaleBytes > 0) uploads.push(rowsOf(part.scales, packed.scales, scaleBytes));
    }
    await this.#gpu.uploads.write(uploads, signal);
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}
