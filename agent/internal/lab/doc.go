// Package lab is a small image service for the tests of agents: an image made
// on the spot, its manifest over HTTP in the form of the real service, and a
// session on the loopback interface. It also spoils what it serves, on
// request.
package lab
