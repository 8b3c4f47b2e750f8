// Package legacytest is a node with an OMF 4 agent for tests: the agent behaves on the wire as the real one, glued and
// cut messages included, its imaging system answers what it is, and its frisbee is our client writing to a file without
// checking anything, as the original does.
package legacytest
