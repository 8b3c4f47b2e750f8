// Package check holds tests over the whole module: which package may import
// which, what a binary may link, what the documents promise. It has no code of
// its own.
package check
