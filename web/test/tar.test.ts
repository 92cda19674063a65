import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { tar } from '../src/upload/tar'

const PYTHON = `
import sys, tarfile, io, json
archive = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))
print(json.dumps([[member.name, archive.extractfile(member).read().decode()] for member in archive]))
`

test('another program reads every name and byte back', async () => {
  const names = ['a.jpg', 'cats/ü ß.jpg', '犬/' + '長'.repeat(90) + '.png', 'x'.repeat(99), 'x'.repeat(100), 'x'.repeat(101), 'd/'.repeat(200) + 'f.jpg']
  const entries = names.map((path, index) => ({ path, file: new Blob(['y'.repeat(index * 171)]) }))
  const body = Buffer.from(await tar(entries).arrayBuffer())
  expect(body.length % 512).toBe(0)
  const read = JSON.parse(execFileSync('python3', ['-c', PYTHON], { input: body }).toString())
  expect(read).toEqual(names.map((path, index) => [path, 'y'.repeat(index * 171)]))
})
