import type { Message } from '../chat/message'
import type { Settings } from '../settings/settings'

export interface Chat {
  id: string
  title: string
  /** Milliseconds since 1970. */
  created: number
  updated: number
  /** The end of the branch that is shown. */
  leaf: string | null
  settings: Settings
  model?: string
}

export interface Conversation {
  chat: Chat
  messages: Message[]
}

/** Where conversations are kept. */
export interface Repository {
  /** Whether they outlive the page. */
  readonly lasting: boolean
  chats(): Promise<Chat[]>
  messagesOf(chat: string): Promise<Message[]>
  saveChats(chats: Chat[]): Promise<void>
  saveMessages(messages: Message[]): Promise<void>
  removeChats(ids: string[]): Promise<void>
  removeMessage(id: string): Promise<void>
  /** Ids of the chats with a message that contains these words, in any case. */
  containing(words: string): Promise<Set<string>>
}

export const mentions = (message: Message, words: string): boolean =>
  message.content.toLowerCase().includes(words.toLowerCase())

/** For a browser without IndexedDB, and where the operator wants no history. */
export class MemoryRepository implements Repository {
  readonly lasting = false
  private readonly allChats = new Map<string, Chat>()
  private readonly allMessages = new Map<string, Message>()

  async chats(): Promise<Chat[]> {
    return [...this.allChats.values()]
  }

  async messagesOf(chat: string): Promise<Message[]> {
    return [...this.allMessages.values()].filter((message) => message.chat === chat)
  }

  async saveChats(chats: Chat[]): Promise<void> {
    for (const chat of chats) this.allChats.set(chat.id, chat)
  }

  async saveMessages(messages: Message[]): Promise<void> {
    for (const message of messages) this.allMessages.set(message.id, message)
  }

  async removeChats(ids: string[]): Promise<void> {
    for (const id of ids) {
      this.allChats.delete(id)
      for (const message of await this.messagesOf(id)) this.allMessages.delete(message.id)
    }
  }

  async removeMessage(id: string): Promise<void> {
    this.allMessages.delete(id)
  }

  async containing(words: string): Promise<Set<string>> {
    const found = [...this.allMessages.values()].filter((message) => mentions(message, words))
    return new Set(found.map((message) => message.chat))
  }
}

/** IndexedDB where there is one and it may be used; Dexie is loaded apart from the page. */
export async function openRepository(wanted: boolean): Promise<Repository> {
  if (!wanted) return new MemoryRepository()
  try {
    const { DexieRepository } = await import('./DexieRepository')
    return await DexieRepository.open()
  } catch {
    return new MemoryRepository() // the page says that nothing is kept
  }
}
