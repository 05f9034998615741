import { useCallback, useState } from 'react'
import { type Attachment, AttachmentRefused, type Limits, readAttachment } from './attachment'

/** Files picked, dropped or pasted for the next question, and those that could not be taken. */
export function useAttachments(limits: Limits) {
  const [files, setFiles] = useState<Attachment[]>([])
  const [refused, setRefused] = useState<AttachmentRefused[]>([])
  const add = useCallback(
    async (picked: Iterable<File>) => {
      const results = await Promise.allSettled([...picked].map((file) => readAttachment(file, limits)))
      setFiles((before) => [...before, ...results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))])
      setRefused(results.flatMap((one) => (one.status === 'rejected' && one.reason instanceof AttachmentRefused ? [one.reason] : [])))
    },
    [limits],
  )
  const remove = useCallback((at: number) => setFiles((before) => before.filter((_, index) => index !== at)), [])
  const clear = useCallback(() => {
    setFiles([])
    setRefused([])
  }, [])
  return { files, refused, add, remove, clear }
}
