// Reads the files of a drop: single files, or those of a dropped folder.

const isFileEntry = (entry: FileSystemEntry): entry is FileSystemFileEntry => entry.isFile;
const isFolderEntry = (entry: FileSystemEntry): entry is FileSystemDirectoryEntry => entry.isDirectory;

/** Must be called while the drop event is handled; afterwards the browser withdraws the files. */
export function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  return filesOf(entries);
}

async function filesOf(entries: readonly FileSystemEntry[]): Promise<File[]> {
  const found = await Promise.all(
    entries.map(async (entry) => {
      if (isFileEntry(entry)) return [withPath(await new Promise<File>((resolve, reject) => entry.file(resolve, reject)), entry)];
      return isFolderEntry(entry) ? filesOf(await childrenOf(entry)) : [];
    }),
  );
  return found.flat();
}

/** A dropped file tells no path as a chosen folder's files do, and without one two files of one name cannot be told apart. */
function withPath(file: File, { fullPath }: FileSystemEntry): File {
  return Object.defineProperty(file, "webkitRelativePath", { value: fullPath.replace(/^\//, "") });
}

async function childrenOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const children: FileSystemEntry[] = [];
  // A reader returns about a hundred entries a call, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return children;
    children.push(...some);
  }
}
