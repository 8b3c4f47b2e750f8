// Package host carries out the commands of a legacy controller on the machine that our agent runs on: it is the
// [listener.Machine] behind omf-agent's TCP port 9006. Loading goes through our data plane and the safety gate of the
// agent; what is printed is what the ORBIT frisbee prints, without its fault: each mark of progress is passed once.
//
// A legacy controller names no manifest, so nothing but the structure of chunks can be checked; its results are worth
// what they always were.
package host
