// Package nodeset reads the language in which people name nodes and turns it
// into a list of node names. It holds the parser of expressions, the parser of
// topology files, the resolution of both against a testbed, and the way back:
// writing a list of nodes so that it can be read again.
//
// It does not know where nodes come from (a View tells it; package inventory
// has one) and it opens no file by itself: topologies come through the View,
// @file and standard input through the function given to Expand. Nothing is
// ever evaluated; a topology file that computes something is refused.
//
// # Expressions
//
//	set     = run { blank run }
//	run     = ["~"] item { "," ["~"] item }
//	item    = brackets | number | word | "(" set ")"
//	brackets= pair | "[" brackets { "," brackets } "]"
//	pair    = "[" axis "," axis "]"
//	axis    = INT | INT ".." INT | "[" INT { "," INT } "]"
//	number  = INT | INT "-" INT | INT "-" INT "-" INT        the last is a step
//	word    = "all" | "-a" | node name | topology
//
// The brackets are OMF's: [1,1] · [1..4,2] · [[1,1],[2..6,1..2]]. Numbers,
// ranges, steps, -a and ~ are rhubarbe's: 1 4 5 · 1-3 · 1-10-2 · fit8 ·
// -a ~10-20. A word with a colon is the name of a topology; so is, as in OMF,
// a lone word that no node has for a name.
//
// Items are taken from left to right: an item adds its nodes, an item after ~
// takes them away. Duplicates collapse; the order is that of first appearance,
// in brackets x outer, y inner.
//
// Where a mistake could put an image on the wrong node the parser refuses
// instead of guessing: "1,2" (the node [1,2], or the nodes 1 and 2?), a set
// that begins with ~, a range that runs backwards.
package nodeset
