// Package check holds tests over the whole module: which package may import
// which, what a binary may link, what is fuzzed and what runs without the race
// detector, what documents and comments refer to. It has no code of its own.
//
// What documents say of commands, flags and settings is held by the tests of
// cmd/omf.
package check
