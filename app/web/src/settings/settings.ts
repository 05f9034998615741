/** What a person may set of an answer. A number that is null is left to the server and the model. */
export interface Settings {
  systemPrompt: string
  temperature: number | null
  topP: number | null
  maxTokens: number | null
  seed: number | null
  presencePenalty: number | null
  frequencyPenalty: number | null
  /** Functions that the model may call, as JSON in OpenAI's form; empty for none. */
  tools: string
}

export interface NumberField {
  name: 'temperature' | 'topP' | 'maxTokens' | 'seed' | 'presencePenalty' | 'frequencyPenalty'
  /** Its name in the API. */
  api: string
  min: number
  max: number
  /** A step of 1 makes it a whole number. */
  step: number
  /** Where a slider stands while nothing is set. */
  usual: number
}

export const NUMBER_FIELDS: NumberField[] = [
  { name: 'temperature', api: 'temperature', min: 0, max: 2, step: 0.05, usual: 1 },
  { name: 'topP', api: 'top_p', min: 0.05, max: 1, step: 0.05, usual: 1 },
  { name: 'maxTokens', api: 'max_tokens', min: 1, max: 1_000_000, step: 1, usual: 512 },
  { name: 'seed', api: 'seed', min: 0, max: 2_147_483_647, step: 1, usual: 0 },
  { name: 'presencePenalty', api: 'presence_penalty', min: -2, max: 2, step: 0.1, usual: 0 },
  { name: 'frequencyPenalty', api: 'frequency_penalty', min: -2, max: 2, step: 0.1, usual: 0 },
]

export const NO_SETTINGS: Settings = {
  systemPrompt: '',
  temperature: null,
  topP: null,
  maxTokens: null,
  seed: null,
  presencePenalty: null,
  frequencyPenalty: null,
  tools: '',
}

/** Sampling by a word; the system prompt and the tools stay as they are. */
export type Sampling = Omit<Settings, 'systemPrompt' | 'tools'>

const { systemPrompt: _, tools: __, ...NO_SAMPLING } = NO_SETTINGS
export const PRESETS = {
  automatic: NO_SAMPLING,
  precise: { ...NO_SAMPLING, temperature: 0 },
  balanced: { ...NO_SAMPLING, temperature: 0.7, topP: 0.95 },
  creative: { ...NO_SAMPLING, temperature: 1.1, topP: 0.95, presencePenalty: 0.3 },
} satisfies Record<string, Sampling>
export type PresetName = keyof typeof PRESETS
export const PRESET_NAMES = Object.keys(PRESETS) as PresetName[]

export const samplingOf = ({ systemPrompt: _, tools: __, ...sampling }: Settings): Sampling => sampling
export const sameSampling = (a: Sampling, b: Sampling): boolean => NUMBER_FIELDS.every(({ name }) => a[name] === b[name])

/** Settings out of a file or a store: whatever is missing or out of range is left to the server. */
export function parseSettings(raw: unknown): Settings {
  const given = (typeof raw === 'object' && raw !== null ? raw : {}) as { [K in keyof Settings]?: unknown }
  const settings: Settings = { ...NO_SETTINGS }
  for (const field of NUMBER_FIELDS) {
    const value = given[field.name]
    if (typeof value === 'number' && allows(field, value)) settings[field.name] = value
  }
  if (typeof given.systemPrompt === 'string') settings.systemPrompt = given.systemPrompt
  if (typeof given.tools === 'string' && parseTools(given.tools) !== null) settings.tools = given.tools
  return settings
}

const allows = ({ min, max, step }: NumberField, value: number): boolean =>
  value >= min && value <= max && (step !== 1 || Number.isInteger(value))

/** The functions in a JSON text, none for an empty one; null where it is not what the API takes. */
export function parseTools(text: string): object[] | null {
  if (!text.trim()) return []
  try {
    const tools: unknown = JSON.parse(text)
    return Array.isArray(tools) && tools.length > 0 && tools.every(isTool) ? tools : null
  } catch {
    return null
  }
}

function isTool(tool: unknown): tool is object {
  const { type, function: described } = (tool ?? {}) as { type?: unknown; function?: { name?: unknown } }
  return type === 'function' && typeof described?.name === 'string'
}

/** The settings as fields of a request. */
export function requestFields(settings: Settings): Record<string, unknown> {
  const tools = parseTools(settings.tools) ?? []
  const numbers = NUMBER_FIELDS.filter(({ name }) => settings[name] !== null)
  return {
    ...Object.fromEntries(numbers.map(({ name, api }) => [api, settings[name]])),
    ...(tools.length > 0 && { tools }),
  }
}
