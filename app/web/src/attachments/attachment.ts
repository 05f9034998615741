/** A file that goes with a question: a text as it is, an image as a data: URL. */
export interface Attachment {
  kind: 'text' | 'image'
  name: string
  data: string
}

export type Refusal = 'imagesOff' | 'notText' | 'tooLarge'

/** Images larger than this are made smaller: models read no more of them, and requests have a limit. */
const LONGEST_EDGE = 1568

export class AttachmentRefused extends Error {
  readonly reason: Refusal
  readonly file: string

  constructor(reason: Refusal, file: string) {
    super(`${file}: ${reason}`)
    this.reason = reason
    this.file = file
  }
}

export interface Limits {
  /** Whether the service reads images. */
  images: boolean
  /** Largest text file, in bytes. */
  bytes: number
}

/** Read a file as an attachment, or throw AttachmentRefused. What is UTF-8 without zero bytes is a text. */
export async function readAttachment(file: File, limits: Limits): Promise<Attachment> {
  if (file.type.startsWith('image/') && file.type !== 'image/svg+xml') {
    if (!limits.images) throw new AttachmentRefused('imagesOff', file.name)
    return { kind: 'image', name: file.name, data: await shrunk(file) }
  }
  if (file.size > limits.bytes) throw new AttachmentRefused('tooLarge', file.name)
  const text = decoded(await file.arrayBuffer())
  if (text === null) throw new AttachmentRefused('notText', file.name)
  return { kind: 'text', name: file.name, data: text }
}

/** The text of UTF-8 bytes; null for anything else. */
export function decoded(bytes: ArrayBuffer): string | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return text.includes('\0') ? null : text
  } catch {
    return null
  }
}

async function shrunk(file: File): Promise<string> {
  const image = await createImageBitmap(file).catch(() => {
    throw new AttachmentRefused('notText', file.name)
  })
  const scale = Math.min(1, LONGEST_EDGE / Math.max(image.width, image.height))
  const canvas = document.createElement('canvas')
  canvas.width = Math.max(1, Math.round(image.width * scale))
  canvas.height = Math.max(1, Math.round(image.height * scale))
  canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height)
  image.close()
  // PNG keeps drawings sharp and see-through; photographs come as JPEG.
  return file.type === 'image/png' && scale === 1 ? canvas.toDataURL('image/png') : canvas.toDataURL('image/jpeg', 0.9)
}
