import { Dexie, type Table } from 'dexie'
import type { Message } from '../chat/message'
import { type Chat, mentions, type Repository } from './repository'

class Database extends Dexie {
  declare chats: Table<Chat, string>
  declare messages: Table<Message, string>

  constructor() {
    super('bedplate')
    this.version(1).stores({ chats: 'id', messages: 'id, chat' })
  }
}

/** Conversations in this browser's IndexedDB. */
export class DexieRepository implements Repository {
  readonly lasting = true
  private readonly database = new Database()

  static async open(): Promise<DexieRepository> {
    const repository = new DexieRepository()
    await repository.database.open()
    return repository
  }

  chats(): Promise<Chat[]> {
    return this.database.chats.toArray()
  }

  messagesOf(chat: string): Promise<Message[]> {
    return this.database.messages.where('chat').equals(chat).toArray()
  }

  async saveChats(chats: Chat[]): Promise<void> {
    await this.database.chats.bulkPut(chats)
  }

  async saveMessages(messages: Message[]): Promise<void> {
    await this.database.messages.bulkPut(messages)
  }

  async removeChats(ids: string[]): Promise<void> {
    const { chats, messages } = this.database
    await this.database.transaction('rw', chats, messages, async () => {
      await chats.bulkDelete(ids)
      await messages.where('chat').anyOf(ids).delete()
    })
  }

  async removeMessage(id: string): Promise<void> {
    await this.database.messages.delete(id)
  }

  async containing(words: string): Promise<Set<string>> {
    const found = new Set<string>()
    await this.database.messages.each((message) => {
      if (mentions(message, words)) found.add(message.chat)
    })
    return found
  }
}
