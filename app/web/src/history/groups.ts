import type { Chat } from './repository'

export type Age = 'today' | 'yesterday' | 'week' | 'older'

const DAY = 86_400_000

/** Chats by their age at `now`, in the order they come; no empty group. */
export function grouped(chats: Chat[], now: number): [Age, Chat[]][] {
  const today = new Date(now).setHours(0, 0, 0, 0)
  const ageOf = ({ updated }: Chat): Age => {
    if (updated >= today) return 'today'
    if (updated >= today - DAY) return 'yesterday'
    return updated >= today - 7 * DAY ? 'week' : 'older'
  }
  const ages: Age[] = ['today', 'yesterday', 'week', 'older']
  const groups = ages.map((age): [Age, Chat[]] => [age, chats.filter((chat) => ageOf(chat) === age)])
  return groups.filter(([, group]) => group.length > 0)
}
