import type { Language } from '../i18n/catalogue'

/** What the operator decides at run time: `/config.json`, written by Ansible, read at every start of the page. */
export interface Config {
  title: string
  /** Where the OpenAI-compatible API is, without a slash at the end. */
  apiBase: string
  /** Chosen at first, if the service has it. */
  defaultModel: string | null
  /** False for a service without keys: the page then asks for none. */
  keyRequired: boolean
  /** The system prompt of a person who has set none. */
  systemPrompt: string
  /** Whether conversations are kept in the reader's browser. */
  history: boolean
  /** Whether the service reads images. */
  images: boolean
  /** Largest text file that may go with a question, in bytes. */
  attachmentBytes: number
  /** Questions offered in an empty chat. */
  suggestions: Record<Language, string[]>
}

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)
const texts = (value: unknown): string[] => (Array.isArray(value) ? value.filter((item) => text(item) !== undefined) : [])

const size = (value: unknown): number | undefined => (Number.isInteger(value) && Number(value) > 0 ? Number(value) : undefined)

/** Each field that is missing or of the wrong type takes its default. */
export function parseConfig(raw: unknown): Config {
  const given = (raw ?? {}) as { [K in keyof Config]?: unknown }
  const suggestions = (given.suggestions ?? {}) as Partial<Record<Language, unknown>>
  return {
    title: text(given.title) ?? 'Bedplate',
    apiBase: (text(given.apiBase) ?? '/v1').replace(/\/+$/, ''),
    defaultModel: text(given.defaultModel) ?? null,
    keyRequired: given.keyRequired !== false,
    systemPrompt: text(given.systemPrompt) ?? '',
    history: given.history !== false,
    images: given.images === true,
    attachmentBytes: size(given.attachmentBytes) ?? 262_144,
    suggestions: { en: texts(suggestions.en), zh: texts(suggestions.zh) },
  }
}

/** A page without its configuration still works, with the defaults. */
export async function loadConfig(): Promise<Config> {
  try {
    const response = await fetch('./config.json', { cache: 'no-cache' })
    return parseConfig(response.ok ? await response.json() : null)
  } catch {
    return parseConfig(null)
  }
}
