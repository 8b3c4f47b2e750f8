// Command omf-agent is the agent of one node: it runs in the imaging system,
// as PID 1 or under an init, and loads images when it is told to.
//
//	omf-agent --nats nats://10.0.0.1:4222 --node n1-2 --credential /run/omf/credential
//
// Every flag has an environment variable, OMF_AGENT_ and the name of the flag
// in upper case with "_" for "-"; a flag wins. OMF_AGENT_CREDENTIAL is the
// credential itself, in JSON, not a file.
//
// Exit codes: 0 ended by a signal · 1 it could not run · 2 wrong usage · 5 the
// bus could not be reached within --timeout, or refused the credential.
package main
