import type { ContentPart, Turn } from '../api/client'
import type { Message } from './message'

/**
 * What the model is told: the system prompt, questions with their answers, and the last question.
 *
 * A question that got no word of answer is left out, for roles must take turns.
 */
export function turnsOf(path: Message[], systemPrompt: string): Turn[] {
  const told = path.filter((message, index) => {
    if (message.role === 'user' && index === path.length - 1) return true
    const answer = message.role === 'assistant' ? message : path[index + 1]
    return answer?.role === 'assistant' && answer.content !== ''
  })
  const opening: Turn[] = systemPrompt.trim() ? [{ role: 'system', content: systemPrompt }] : []
  return [...opening, ...told.map((message): Turn => ({ role: message.role, content: contentOf(message) }))]
}

/** Text files are quoted in the text; images become parts, as OpenAI's API has them. */
function contentOf({ content, attachments }: Message): string | ContentPart[] {
  const files = attachments.filter((file) => file.kind === 'text')
  const images = attachments.filter((file) => file.kind === 'image')
  const text = [...files.map((file) => quoted(file.name, file.data)), content].filter(Boolean).join('\n\n')
  if (images.length === 0) return text
  const parts = images.map((image): ContentPart => ({ type: 'image_url', image_url: { url: image.data } }))
  return text ? [...parts, { type: 'text', text }] : parts
}

/** A file between fences that are longer than any fence in it. */
function quoted(name: string, text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`{3,}/g)].map(([fence]) => fence.length))
  const fence = '`'.repeat(longest + 1)
  return `${name}\n${fence}\n${text.replace(/\n$/, '')}\n${fence}`
}
