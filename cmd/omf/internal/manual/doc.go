// Package manual writes manual pages, in the language of man(7): from parts
// (Page), and from what a program says of itself when asked for help (Usage).
//
// What the pages say lives with the commands; nothing here knows them.
package manual
