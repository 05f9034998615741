import type { AnswerPart, Usage } from '../api/answer'
import type { Mishap } from '../api/failure'
import type { Attachment } from '../attachments/attachment'

export interface ToolCall {
  id: string
  name: string
  /** JSON, as far as it has come. */
  arguments: string
}

/** When the words of an answer came, in milliseconds after it was asked for. */
export interface Timing {
  first: number | null
  last: number
}

/** `growing` in a database means that the page was closed before the answer was whole. */
export type Status = 'growing' | 'done' | 'stopped' | 'failed'

/** A question, or an answer as far as it has come. */
export interface Message {
  id: string
  chat: string
  /** The message before it; null for the first question. */
  parent: string | null
  role: 'user' | 'assistant'
  content: string
  reasoning: string
  status: Status
  /** Milliseconds since 1970; answers to one question are ordered by it. */
  created: number
  attachments: Attachment[]
  toolCalls: ToolCall[]
  model?: string
  finishReason?: string
  failure?: Mishap
  usage?: Usage
  timing?: Timing
}

const EMPTY = { content: '', reasoning: '', attachments: [], toolCalls: [] }

export function question(chat: string, parent: string | null, content: string, attachments: Attachment[] = []): Message {
  return { ...EMPTY, ...fresh(chat, parent), role: 'user', status: 'done', content, attachments }
}

export function emptyAnswer(chat: string, parent: string, model: string): Message {
  return { ...EMPTY, ...fresh(chat, parent), role: 'assistant', status: 'growing', model }
}

const fresh = (chat: string, parent: string | null) => ({ id: crypto.randomUUID(), chat, parent, created: Date.now() })

/** The answer with its next part, which came `elapsed` milliseconds after the question was sent. */
export function append(answer: Message, part: AnswerPart, elapsed: number): Message {
  const word = part.content !== undefined || part.reasoning !== undefined || part.toolCalls !== undefined
  return {
    ...answer,
    content: answer.content + (part.content ?? ''),
    reasoning: answer.reasoning + (part.reasoning ?? ''),
    ...(part.toolCalls && { toolCalls: part.toolCalls.reduce(withCallPart, answer.toolCalls) }),
    ...(part.finishReason && { finishReason: part.finishReason }),
    ...(part.usage && { usage: part.usage }),
    ...(word && { timing: { first: answer.timing?.first ?? elapsed, last: elapsed } }),
  }
}

function withCallPart(calls: ToolCall[], part: { index: number } & Partial<ToolCall>): ToolCall[] {
  const next = [...calls]
  const call = next[part.index] ?? { id: '', name: '', arguments: '' }
  next[part.index] = {
    id: part.id ?? call.id,
    name: part.name ?? call.name,
    arguments: call.arguments + (part.arguments ?? ''),
  }
  return next
}

/** Whether there is anything of an answer to keep. */
export const hasWords = (answer: Message): boolean =>
  answer.content !== '' || answer.reasoning !== '' || answer.toolCalls.length > 0

const LEAST_MS = 5 // what comes in less came at once: its speed is the network's

/** Tokens per second between the first and the last word; null where too few came to tell. */
export function speedOf({ usage, timing }: Message): number | null {
  if (!usage || !timing || timing.first === null || usage.completion < 2) return null
  if (timing.last - timing.first < LEAST_MS) return null
  return ((usage.completion - 1) * 1000) / (timing.last - timing.first)
}
