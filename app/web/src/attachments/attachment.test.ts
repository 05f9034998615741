import { expect, test } from 'vitest'
import { AttachmentRefused, decoded, readAttachment } from './attachment'

const LIMITS = { images: false, bytes: 10 }
const refusal = (file: File) => readAttachment(file, LIMITS).catch((error: AttachmentRefused) => error.reason)

test('a text is taken as it is', async () => {
  expect(await readAttachment(new File(['héllo'], 'a.txt'), LIMITS)).toEqual({ kind: 'text', name: 'a.txt', data: 'héllo' })
})

test('what is no text, too large, or an image where none is read is refused', async () => {
  expect(await refusal(new File([new Uint8Array([0xff, 0xfe])], 'a.bin'))).toBe('notText')
  expect(await refusal(new File(['a\0b'], 'a.bin'))).toBe('notText')
  expect(await refusal(new File(['12345678901'], 'a.txt'))).toBe('tooLarge')
  expect(await refusal(new File(['x'], 'a.png', { type: 'image/png' }))).toBe('imagesOff')
})

test('a drawing in SVG is a text', async () => {
  expect((await readAttachment(new File(['<svg/>'], 'a.svg', { type: 'image/svg+xml' }), LIMITS)).kind).toBe('text')
  expect(decoded(new TextEncoder().encode('').buffer as ArrayBuffer)).toBe('')
})
