/** A tar as one Blob (POSIX 1003.1-2001): its files stay on disk until a piece of it is sent. */
const BLOCK = 512
const encoder = new TextEncoder()

export type Entry = { path: string; file: Blob }

/** Return a tar of these files; names may have any letters and any length (pax headers). */
export function tar(entries: readonly Entry[]): Blob {
  const parts: BlobPart[] = []
  for (const { path, file } of entries) {
    const name = encoder.encode(path)
    if (name.length > 100 || name.length !== path.length) {
      const record = paxRecord('path', path)
      parts.push(header(encoder.encode('pax'), record.length, 'x'), record, padding(record.length))
    }
    parts.push(header(name.slice(0, 100), file.size, '0'), file, padding(file.size))
  }
  parts.push(new Uint8Array(2 * BLOCK))
  return new Blob(parts, { type: 'application/x-tar' })
}

function padding(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK)
}

/** A record says its own length, which counts the digits of that length. */
function paxRecord(key: string, value: string): Uint8Array<ArrayBuffer> {
  const rest = encoder.encode(` ${key}=${value}\n`).length
  let length = rest
  while (length !== rest + String(length).length) length = rest + String(length).length
  return encoder.encode(`${length} ${key}=${value}\n`)
}

function header(name: Uint8Array, size: number, kind: '0' | 'x'): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK)
  const put = (text: string, at: number): void => block.set(encoder.encode(text), at)
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')
  block.set(name, 0)
  put('0000644\0', 100)
  put('0000000\0', 108)
  put('0000000\0', 116)
  put(`${octal(size, 11)}\0`, 124)
  put('00000000000\0', 136)
  put('        ', 148)
  put(kind, 156)
  put('ustar\x0000', 257)
  put(`${octal(block.reduce((sum, byte) => sum + byte, 0), 6)}\0 `, 148)
  return block
}
