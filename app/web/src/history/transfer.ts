import type { Attachment } from '../attachments/attachment'
import type { Message, Status, ToolCall } from '../chat/message'
import { pathTo } from '../chat/tree'
import { parseSettings } from '../settings/settings'
import type { Chat, Conversation } from './repository'

const FORMAT = 'bedplate-chats'
const VERSION = 1

/** A file that holds no conversations of ours. */
export class NotOurs extends Error {}

/** Conversations as a JSON file, whole: every branch, with settings and attachments. */
export function toJson(conversations: Conversation[]): string {
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1)
}

/** The shown branch of a conversation, for people. `names` are the headings of questions and answers. */
export function toMarkdown({ chat, messages }: Conversation, names: Record<Message['role'], string>): string {
  const path = pathTo(new Map(messages.map((message) => [message.id, message])), chat.leaf)
  const parts = path.map((message) => `## ${names[message.role]}\n\n${message.content.trim()}`)
  return `# ${chat.title}\n\n${parts.join('\n\n')}\n`
}

/** Conversations out of a JSON file, with ids of their own, so that a file can be read twice. Throws NotOurs. */
export function fromJson(text: string): Conversation[] {
  let file: { format?: unknown; version?: unknown; conversations?: unknown }
  try {
    file = JSON.parse(text) ?? {}
  } catch {
    throw new NotOurs('no JSON')
  }
  if (file.format !== FORMAT || file.version !== VERSION || !Array.isArray(file.conversations)) {
    throw new NotOurs(`no ${FORMAT} of version ${VERSION}`)
  }
  return file.conversations.map(readConversation)
}

type Raw<T> = { [K in keyof T]?: unknown }

function readConversation(raw: Raw<Conversation> | null): Conversation {
  const chat = (raw?.chat ?? {}) as Raw<Chat>
  if (!Array.isArray(raw?.messages)) throw new NotOurs('a conversation without messages')
  const id = crypto.randomUUID()
  const ids = new Map<unknown, string>(raw.messages.map((message: Raw<Message> | null) => [message?.id, crypto.randomUUID()]))
  const messages = raw.messages.map((message: Raw<Message> | null) => readMessage(message ?? {}, id, ids))
  return {
    chat: {
      id,
      title: text(chat.title) || '…',
      created: number(chat.created),
      updated: number(chat.updated),
      leaf: ids.get(chat.leaf) ?? messages.at(-1)?.id ?? null,
      settings: parseSettings(chat.settings),
      ...(text(chat.model) && { model: text(chat.model) }),
    },
    messages,
  }
}

const STATUSES: readonly unknown[] = ['growing', 'done', 'stopped', 'failed'] satisfies Status[]

function readMessage(raw: Raw<Message>, chat: string, ids: Map<unknown, string>): Message {
  const id = ids.get(raw.id)
  const parent = raw.parent === null ? null : ids.get(raw.parent)
  if (id === undefined || parent === undefined || typeof raw.content !== 'string') throw new NotOurs('a broken message')
  if (raw.role !== 'user' && raw.role !== 'assistant') throw new NotOurs('a message of nobody')
  if (!STATUSES.includes(raw.status)) throw new NotOurs('a message without status')
  const failed = raw.status === 'failed' || raw.status === 'growing'
  return {
    id,
    chat,
    parent,
    role: raw.role,
    content: raw.content,
    reasoning: text(raw.reasoning),
    status: failed ? 'failed' : (raw.status as Status),
    created: number(raw.created),
    attachments: list(raw.attachments).filter(isAttachment),
    toolCalls: list(raw.toolCalls).filter(isToolCall),
    ...(text(raw.model) && { model: text(raw.model) }),
    ...(text(raw.finishReason) && { finishReason: text(raw.finishReason) }),
    ...(failed && { failure: { kind: 'interrupted' as const, message: '' } }),
  }
}

function isAttachment(raw: object): raw is Attachment {
  const { kind, name, data } = raw as Raw<Attachment>
  if (typeof name !== 'string' || typeof data !== 'string') return false
  return kind === 'text' || (kind === 'image' && /^data:image\/(png|jpeg|webp|gif);/.test(data))
}

const isToolCall = (raw: object): raw is ToolCall =>
  ['id', 'name', 'arguments'].every((name) => typeof (raw as Record<string, unknown>)[name] === 'string')

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const number = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) ? value : 0)
const list = (value: unknown): object[] =>
  Array.isArray(value) ? value.filter((item) => typeof item === 'object' && item !== null) : []
