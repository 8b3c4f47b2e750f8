// Command omf-agent is the agent of one node. In the imaging system, as PID 1
// or under an init, it loads images when it is told to:
//
//	omf-agent --imaging --nats nats://10.0.0.1:4222 --node n1-2 --credential /run/omf/credential
//
// Without --imaging it is a resident of the system on the node's own disk,
// which halts and reboots the machine, with a credential that is good for
// nothing else.
//
// Every flag has an environment variable, OMF_AGENT_ and the name of the flag
// in upper case with "_" for "-"; a flag wins. OMF_AGENT_CREDENTIAL is the
// credential itself, in JSON, not a file.
//
// Exit codes: 0 ended by a signal · 1 it could not run · 2 wrong usage · 5 the
// bus could not be reached within --timeout, or refused the credential.
package main
