/** One file of a zip archive as a stream: Node has the decompression, not the container. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { createInflateRaw } from "node:zlib";

// APPNOTE.TXT 4.3.16, 4.3.12 and 4.3.7: the end record, an entry of the directory, the header before the data.
const END = { signature: 0x06054b50, size: 22 };
const ENTRY = { signature: 0x02014b50, size: 46 };
const HEADER = { signature: 0x04034b50, size: 30 };
const DEFLATE = 8;

/**
 * The file `name` of the archive at `path`, decompressed while it is read.
 *
 * @param {string} path
 * @param {string} name
 */
export async function openEntry(path, name) {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    // The end record is last, but for a comment of at most 64 KiB.
    const tail = await bytes(file, Math.max(0, size - END.size - 0xffff), size);
    const end = tail.lastIndexOf(signature(END.signature));
    if (end < 0) throw new Error(`${path} is not a zip archive`);
    const from = tail.readUInt32LE(end + 16);
    const directory = await bytes(file, from, from + tail.readUInt32LE(end + 12));
    const { offset, method, packed } = find(directory, name);
    if (method !== DEFLATE)
      throw new Error(`${name}: expected it deflated, found method ${method}`);
    const header = await bytes(file, offset, offset + HEADER.size);
    const start = offset + HEADER.size + header.readUInt16LE(26) + header.readUInt16LE(28);
    return createReadStream(path, { start, end: start + packed - 1 }).pipe(createInflateRaw());
  } finally {
    await file.close();
  }
}

/** @param {Buffer} directory @param {string} name */
function find(directory, name) {
  for (let at = 0; at < directory.length; ) {
    if (directory.readUInt32LE(at) !== ENTRY.signature) break;
    const named = directory.readUInt16LE(at + 28);
    const next =
      at + ENTRY.size + named + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    if (directory.toString("utf8", at + ENTRY.size, at + ENTRY.size + named) === name) {
      return {
        method: directory.readUInt16LE(at + 10),
        packed: directory.readUInt32LE(at + 20),
        offset: directory.readUInt32LE(at + 42),
      };
    }
    at = next;
  }
  throw new Error(`the archive has no ${name}`);
}

/** @param {import("node:fs/promises").FileHandle} file @param {number} from @param {number} to */
async function bytes(file, from, to) {
  const { buffer } = await file.read({ buffer: Buffer.alloc(to - from), position: from });
  return buffer;
}

/** @param {number} number */
function signature(number) {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(number);
  return buffer;
}
