import type { AnswerPart } from '../api/answer'
import type { Api, ChatBody, Turn } from '../api/client'
import { asFailure, isAbort, mishapOf } from '../api/failure'
import type { Attachment } from '../attachments/attachment'
import type { Chat, Conversation, Repository } from '../history/repository'
import { NO_SETTINGS, requestFields, type Settings } from '../settings/settings'
import { append, emptyAnswer, hasWords, type Message, question } from './message'
import { newestLeaf, pathTo, type Tree } from './tree'
import { turnsOf } from './turns'

/** What the page shows; a new object after each change. */
export interface View {
  /** Newest first. */
  chats: Chat[]
  chat: Chat | null
  tree: Tree
  path: Message[]
  settings: Settings
  /** Ids of the chats whose answer is being written. */
  running: ReadonlySet<string>
  /** Whether conversations outlive the page; null until it is known. */
  lasting: boolean | null
  /** What was deleted last and can be brought back. */
  removed: Conversation[]
}

/** Whom an answer is asked for. */
export interface Target {
  api: Api
  model: string
}

interface Run {
  answer: Message
  abort: AbortController
  saved: number
}

const SHOW_MS = 40 // a step of what is shown: many tokens come in one
const SAVE_MS = 500 // at most so much of a growing answer is lost with the page
const MOST_RETRIES = 3

/** All conversations, and the answers that are being written, whichever conversation is shown. */
export class ChatStore {
  private readonly repository: Promise<Repository>
  private readonly listeners = new Set<() => void>()
  private readonly runs = new Map<string, Run>()
  /** Failures of this session by question: these alone are retried without being asked. */
  private readonly failures = new Map<string, number>()
  private showing: ReturnType<typeof setTimeout> | undefined
  private view: View

  constructor(repository: Promise<Repository>, settings: Settings = NO_SETTINGS) {
    this.repository = repository
    this.view = {
      chats: [],
      chat: null,
      tree: new Map(),
      path: [],
      settings,
      running: new Set(),
      lasting: null,
      removed: [],
    }
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  readonly getView = (): View => this.view

  /** Reads the list of conversations and shows one, if it is there. */
  async load(chat: string | null): Promise<void> {
    const repository = await this.repository
    this.show({ chats: newestFirst(await repository.chats()), lasting: repository.lasting })
    if (chat !== null && this.view.chat === null) await this.open(chat)
  }

  /** Shows a conversation; null, or one that is not there, shows an empty one. */
  async open(id: string | null): Promise<void> {
    const chat = this.view.chats.find((one) => one.id === id) ?? null
    this.show({ chat, tree: new Map(), ...(chat && { settings: chat.settings }) })
    if (chat === null) return
    const messages = await (await this.repository).messagesOf(chat.id)
    if (this.view.chat?.id !== chat.id) return // another one was opened meanwhile
    const running = this.runs.get(chat.id)?.answer
    const tree = new Map(messages.map((message) => [message.id, settled(message)]))
    for (const message of this.view.tree.values()) tree.set(message.id, message)
    if (running) tree.set(running.id, running)
    this.show({ tree })
  }

  ask(text: string, attachments: Attachment[], target: Target): void {
    const chat = this.view.chat ?? newChat(titleOf(text, attachments), this.view.settings)
    const asked = question(chat.id, chat.leaf, text, attachments)
    this.put(chat, asked)
    this.answer(asked, target)
  }

  /** Asks another question in the place of this one; the old one stays as a branch. */
  edit(id: string, text: string, target: Target): void {
    const old = this.view.tree.get(id)
    if (!old || !this.view.chat || this.busy) return
    const asked = question(old.chat, old.parent, text, old.attachments)
    this.put(this.view.chat, asked)
    this.answer(asked, target)
  }

  /** Asks for another answer in the place of this one. An answer without a word gives way, any other stays as a branch. */
  regenerate(id: string, target: Target): void {
    const old = this.view.tree.get(id)
    const asked = old?.parent ? this.view.tree.get(old.parent) : undefined
    if (!old || !asked || this.busy) return
    if (!hasWords(old)) {
      const tree = new Map(this.view.tree)
      tree.delete(id)
      this.show({ tree })
      this.write((repository) => repository.removeMessage(id))
    }
    this.answer(asked, target)
  }

  /** Lets the model go on where an answer ended before its time. */
  goOn(id: string, target: Target): void {
    const { finishReason: _, failure: __, usage: ___, timing: ____, ...answer } = this.view.tree.get(id) ?? ({} as Message)
    if (!answer.parent || this.busy) return
    const begun: Turn = { role: 'assistant', content: answer.content }
    const body = this.bodyOf(answer.parent, target.model)
    this.run({ ...answer, status: 'growing' }, target.api, {
      ...body,
      messages: [...body.messages, begun],
      continue_final_message: true,
      add_generation_prompt: false,
    })
  }

  /** Whether this failure may be retried without being asked: it happened now, and not too often. */
  retriesItself(answer: Message): boolean {
    const failures = answer.parent === null ? undefined : this.failures.get(answer.parent)
    return answer.failure?.retryAfter !== undefined && failures !== undefined && failures <= MOST_RETRIES
  }

  /** Shows the branch that this message is on. */
  turnTo(id: string): void {
    if (this.view.chat && !this.busy) this.changeChat({ ...this.view.chat, leaf: newestLeaf(this.view.tree, id) })
  }

  stop(): void {
    if (this.view.chat) this.runs.get(this.view.chat.id)?.abort.abort()
  }

  set(settings: Settings): void {
    this.show({ settings })
    if (this.view.chat) this.changeChat({ ...this.view.chat, settings })
  }

  rename(id: string, title: string): void {
    const chat = this.view.chats.find((one) => one.id === id)
    if (chat && title.trim()) this.changeChat({ ...chat, title: title.trim() })
  }

  /** Deletes conversations; `restore` brings them back until others are deleted. */
  async remove(ids: string[]): Promise<void> {
    const gone = this.view.chats.filter((chat) => ids.includes(chat.id))
    const away = this.view.chat && ids.includes(this.view.chat.id)
    this.show({
      chats: this.view.chats.filter((chat) => !ids.includes(chat.id)),
      ...(away && { chat: null, tree: new Map<string, Message>() }),
    })
    for (const { id } of gone) this.runs.get(id)?.abort.abort()
    const removed = await this.conversations(gone)
    await (await this.repository).removeChats(ids)
    this.show({ removed })
  }

  async restore(): Promise<void> {
    const { removed } = this.view
    this.show({ removed: [] })
    await this.add(removed)
  }

  forgetRemoved(): void {
    this.show({ removed: [] })
  }

  async add(conversations: Conversation[]): Promise<void> {
    const repository = await this.repository
    await repository.saveMessages(conversations.flatMap(({ messages }) => messages))
    await repository.saveChats(conversations.map(({ chat }) => chat))
    this.show({ chats: newestFirst([...conversations.map(({ chat }) => chat), ...this.view.chats]) })
  }

  async conversations(chats: Chat[]): Promise<Conversation[]> {
    const repository = await this.repository
    return Promise.all(chats.map(async (chat) => ({ chat, messages: (await repository.messagesOf(chat.id)).map(settled) })))
  }

  async containing(words: string): Promise<Set<string>> {
    return (await this.repository).containing(words)
  }

  /** Writes down what has come so far, for the page may be closed at any moment. */
  save(): void {
    const growing = [...this.runs.values()].map((run) => run.answer)
    if (growing.length > 0) this.write((repository) => repository.saveMessages(growing))
  }

  private get busy(): boolean {
    return this.view.chat !== null && this.runs.has(this.view.chat.id)
  }

  private answer(asked: Message, { api, model }: Target): void {
    const answer = emptyAnswer(asked.chat, asked.id, model)
    this.run(answer, api, this.bodyOf(asked.id, model))
  }

  private bodyOf(question: string, model: string): ChatBody {
    const { tree, settings } = this.view
    return { model, messages: turnsOf(pathTo(tree, question), settings.systemPrompt), ...requestFields(settings) }
  }

  private run(answer: Message, api: Api, body: ChatBody): void {
    if (!this.view.chat) return
    const run: Run = { answer, abort: new AbortController(), saved: performance.now() }
    this.runs.set(answer.chat, run)
    this.put({ ...this.view.chat, model: body.model }, answer)
    void this.read(run, api.streamChat(body, run.abort.signal))
  }

  private async read(run: Run, parts: AsyncIterable<AnswerPart>): Promise<void> {
    const started = performance.now()
    const { chat, parent } = run.answer
    let end: Partial<Message> = { status: 'done' }
    try {
      for await (const part of parts) this.grow(run, part, performance.now() - started)
      if (parent) this.failures.delete(parent)
    } catch (error) {
      end = isAbort(error)
        ? { status: 'stopped' }
        : { status: 'failed', failure: mishapOf(asFailure(error, 'malformed')) }
      if (end.failure && parent) this.failures.set(parent, (this.failures.get(parent) ?? 0) + 1)
    }
    run.answer = { ...run.answer, ...end }
    this.runs.delete(chat)
    const known = this.view.chats.find((one) => one.id === chat)
    if (!known) return // it was deleted meanwhile
    this.write((repository) => repository.saveMessages([run.answer]))
    this.changeChat({ ...known, updated: Date.now() })
    this.showAnswer(run.answer)
  }

  private grow(run: Run, part: AnswerPart, elapsed: number): void {
    run.answer = append(run.answer, part, elapsed)
    const now = performance.now()
    if (now - run.saved >= SAVE_MS) {
      run.saved = now
      const { answer } = run
      this.write((repository) => repository.saveMessages([answer]))
    }
    this.showing ??= setTimeout(() => {
      this.showing = undefined
      for (const { answer } of this.runs.values()) this.showAnswer(answer)
    }, SHOW_MS)
  }

  private showAnswer(answer: Message): void {
    const here = this.view.chat?.id === answer.chat
    this.show(here ? { tree: new Map(this.view.tree).set(answer.id, answer) } : {})
  }

  /** Adds a message and shows it. */
  private put(chat: Chat, message: Message): void {
    const tree = this.view.chat?.id === chat.id ? this.view.tree : new Map<string, Message>()
    this.view = { ...this.view, tree: new Map(tree).set(message.id, message), chat }
    this.changeChat({ ...chat, leaf: message.id, updated: Date.now() })
    this.write((repository) => repository.saveMessages([message]))
  }

  private changeChat(chat: Chat): void {
    const others = this.view.chats.filter((one) => one.id !== chat.id)
    this.show({ chats: newestFirst([chat, ...others]), ...(this.view.chat?.id === chat.id && { chat }) })
    this.write((repository) => repository.saveChats([chat]))
  }

  private show(change: Partial<View>): void {
    const next = { ...this.view, ...change, running: new Set(this.runs.keys()) }
    this.view = { ...next, path: pathTo(next.tree, next.chat?.leaf ?? null) }
    for (const listener of this.listeners) listener()
  }

  private write(step: (repository: Repository) => Promise<void>): void {
    // A full disk must not end a conversation; the page says that it is not kept.
    this.repository.then(step).catch(() => this.show({ lasting: false }))
  }
}

/** An answer that was growing when its page was closed. */
const settled = (message: Message): Message =>
  message.status === 'growing' ? { ...message, status: 'failed', failure: { kind: 'interrupted', message: '' } } : message

const newestFirst = (chats: Chat[]): Chat[] => [...chats].sort((a, b) => b.updated - a.updated)

const LONGEST_TITLE = 80

function titleOf(text: string, attachments: Attachment[]): string {
  const line = text.trim().split('\n')[0] || attachments[0]?.name || '…'
  return line.length > LONGEST_TITLE ? `${line.slice(0, LONGEST_TITLE - 1)}…` : line
}

function newChat(title: string, settings: Settings): Chat {
  const now = Date.now()
  return { id: crypto.randomUUID(), title, created: now, updated: now, leaf: null, settings }
}
