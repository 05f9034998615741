import { beforeEach, expect, test } from 'vitest'
import { Failure } from '../api/failure'
import { MemoryRepository } from '../history/repository'
import { NO_SETTINGS } from '../settings/settings'
import { ChatStore, type Target } from './ChatStore'
import { ScriptedApi, settle } from './testing'

let api: ScriptedApi
let repository: MemoryRepository
let store: ChatStore
let target: Target

beforeEach(async () => {
  api = new ScriptedApi()
  repository = new MemoryRepository()
  store = new ChatStore(Promise.resolve(repository))
  target = { api, model: 'm' }
  await store.load(null)
})

const shown = () => store.getView().path.map(({ content }) => content)
const last = () => store.getView().path.at(-1)
const told = () => api.bodies.at(-1)?.messages.map(({ content }) => content)
const id = (at: number) => store.getView().path.at(at)?.id ?? ''

async function ask(question: string, answer: string): Promise<void> {
  store.ask(question, [], target)
  await api.send({ content: answer }, { finishReason: 'stop' })
  await api.finish()
}

test('a question and its answer are shown, kept and listed', async () => {
  await ask('Hello\nthere', 'Hi')
  expect(shown()).toEqual(['Hello\nthere', 'Hi'])
  expect(last()).toMatchObject({ status: 'done', model: 'm', finishReason: 'stop' })
  const [chat] = await repository.chats()
  expect(chat).toMatchObject({ title: 'Hello', leaf: last()?.id })
  expect((await repository.messagesOf(chat?.id ?? '')).map(({ content }) => content)).toEqual(['Hello\nthere', 'Hi'])
})

test('an edited question and its answer stand beside the old ones, and the model is told the new ones alone', async () => {
  await ask('One', 'first')
  await ask('Two', 'second')
  store.edit(id(2), 'Three', target)
  expect(told()).toEqual(['One', 'first', 'Three'])
  await api.send({ content: 'third' })
  await api.finish()
  expect(shown()).toEqual(['One', 'first', 'Three', 'third'])

  const [old] = [...store.getView().tree.values()].filter(({ content }) => content === 'Two')
  store.turnTo(old?.id ?? '')
  expect(shown()).toEqual(['One', 'first', 'Two', 'second'])
})

test('another answer stands beside the old one', async () => {
  await ask('One', 'first')
  store.regenerate(id(1), target)
  await api.send({ content: 'again' })
  await api.finish()
  expect(shown()).toEqual(['One', 'again'])
  expect(store.getView().tree.size).toBe(3)
})

test('a failure without a word gives way to the next try; one with words stays as a branch', async () => {
  store.ask('One', [], target)
  await api.fail(new Failure('tooMany', 'busy', 429, 7))
  expect(last()).toMatchObject({ status: 'failed', failure: { kind: 'tooMany', retryAfter: 7 } })
  const failed = last()
  expect(failed && store.retriesItself(failed)).toBe(true)

  store.regenerate(id(1), target)
  await api.send({ content: 'half' })
  await api.fail(new Failure('cut'))
  expect(last()).toMatchObject({ content: 'half', status: 'failed', failure: { kind: 'cut' } })
  expect(store.getView().tree.size).toBe(2)

  store.regenerate(id(1), target)
  expect(store.getView().tree.size).toBe(3)
})

test('a server that goes on asking for patience is not asked for ever', async () => {
  store.ask('One', [], target)
  for (let tries = 0; tries < 3; tries++) {
    await api.fail(new Failure('tooMany', '', 429, 1))
    const failed = last()
    expect(failed && store.retriesItself(failed)).toBe(true)
    store.regenerate(id(1), target)
  }
  await api.fail(new Failure('tooMany', '', 429, 1))
  const failed = last()
  expect(failed && store.retriesItself(failed)).toBe(false)
})

test('a stopped answer keeps its words', async () => {
  store.ask('One', [], target)
  await api.send({ content: 'half' })
  store.stop()
  await settle()
  expect(last()).toMatchObject({ content: 'half', status: 'stopped' })
})

test('an answer is continued in its place', async () => {
  store.ask('One', [], target)
  await api.send({ content: 'half ' }, { finishReason: 'length' })
  await api.finish()
  store.goOn(id(1), target)
  expect(api.bodies.at(-1)).toMatchObject({ continue_final_message: true, add_generation_prompt: false })
  expect(told()).toEqual(['One', 'half '])
  await api.send({ content: 'whole' }, { finishReason: 'stop' })
  await api.finish()
  expect(shown()).toEqual(['One', 'half whole'])
  expect(last()).toMatchObject({ finishReason: 'stop', status: 'done' })
})

test('what came of an answer is kept while it grows, and says after a reload that it is not whole', async () => {
  store.ask('One', [], target)
  await api.send({ content: 'half' })
  store.save()
  await settle()

  const reloaded = new ChatStore(Promise.resolve(repository))
  await reloaded.load(store.getView().chat?.id ?? '')
  expect(reloaded.getView().path.at(-1)).toMatchObject({ content: 'half', failure: { kind: 'interrupted' } })
})

test('an answer goes on while another conversation is shown', async () => {
  store.ask('One', [], target)
  const first = store.getView().chat?.id ?? ''
  await store.open(null)
  await api.send({ content: 'unseen' }, { finishReason: 'stop' })
  expect(store.getView().running.has(first)).toBe(true)
  await api.finish()
  expect(shown()).toEqual([])
  await store.open(first)
  expect(shown()).toEqual(['One', 'unseen'])
})

test('deleted conversations come back, with their messages', async () => {
  await ask('One', 'first')
  const chat = store.getView().chat?.id ?? ''
  await store.remove([chat])
  expect(store.getView().chats).toEqual([])
  expect(await repository.messagesOf(chat)).toEqual([])
  await store.restore()
  await store.open(chat)
  expect(shown()).toEqual(['One', 'first'])
})

test('a conversation that is deleted while its answer comes stays deleted', async () => {
  store.ask('One', [], target)
  await api.send({ content: 'half' })
  await store.remove([store.getView().chat?.id ?? ''])
  await settle()
  expect(await repository.chats()).toEqual([])
  expect(store.getView().running.size).toBe(0)
})

test('settings belong to the conversation, and go into what is asked', async () => {
  await ask('One', 'first')
  store.set({ ...NO_SETTINGS, systemPrompt: 'Be brief.', temperature: 0.5 })
  store.ask('Two', [], target)
  expect(api.bodies.at(-1)).toMatchObject({ temperature: 0.5 })
  expect(told()).toEqual(['Be brief.', 'One', 'first', 'Two'])
  await settle()
  expect((await repository.chats())[0]?.settings.temperature).toBe(0.5)
})

test('a full disk ends no conversation, and is said', async () => {
  repository.saveMessages = () => Promise.reject(new DOMException('full', 'QuotaExceededError'))
  await ask('One', 'first')
  expect(shown()).toEqual(['One', 'first'])
  expect(store.getView().lasting).toBe(false)
})

test('words are found in messages, in any case', async () => {
  await ask('One', 'A Needle in the hay')
  expect(await store.containing('nEEdle')).toEqual(new Set([store.getView().chat?.id]))
  expect(await store.containing('thread')).toEqual(new Set())
})
