import { useStored } from '../preferences/useStored'
import { parseSettings, type Sampling, samplingOf } from './settings'

/** A person's own presets by name, kept in this browser. */
export function usePresets() {
  const [own, setOwn] = useStored('presets', parsePresets)
  return {
    own,
    keep: (name: string, sampling: Sampling) => setOwn({ ...own, [name]: sampling }),
    forget: (name: string) => setOwn(Object.fromEntries(Object.entries(own).filter(([one]) => one !== name))),
  }
}

function parsePresets(raw: unknown): Record<string, Sampling> {
  const entries = Object.entries(typeof raw === 'object' && raw !== null ? raw : {})
  return Object.fromEntries(entries.map(([name, sampling]) => [name, samplingOf(parseSettings(sampling))]))
}
