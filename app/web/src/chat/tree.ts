import type { Message } from './message'

/**
 * A conversation is a tree: an edited question and an answer asked for again stand beside the old one. What is shown is
 * the path to one leaf.
 */
export type Tree = ReadonlyMap<string, Message>

/** The messages from the first question to `leaf`. */
export function pathTo(tree: Tree, leaf: string | null): Message[] {
  const path: Message[] = []
  for (let at = leaf === null ? undefined : tree.get(leaf); at; at = at.parent === null ? undefined : tree.get(at.parent)) {
    path.push(at)
  }
  return path.reverse()
}

/** The messages in the place of this one, itself among them, oldest first. */
export function siblingsOf(tree: Tree, message: Message): Message[] {
  return childrenOf(tree, message.parent)
}

/** The end of the newest branch below a message. */
export function newestLeaf(tree: Tree, id: string): string {
  const next = childrenOf(tree, id).at(-1)
  return next ? newestLeaf(tree, next.id) : id
}

function childrenOf(tree: Tree, parent: string | null): Message[] {
  return [...tree.values()].filter((message) => message.parent === parent).sort((a, b) => a.created - b.created)
}
