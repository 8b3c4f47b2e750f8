package events_test

import (
	"strings"

	"loadnode/events"
)

// channel is a subject of the vocabulary with what is said on it: the source
// of asyncapi.yaml. Names in braces stand for escaped tokens.
type channel struct {
	name    string
	address string
	about   string
	by      string // who publishes
	to      string // who receives
	kind    events.Kind
	payload any // instead of kind: plain JSON
	reply   any // the answer, for request/reply
}

// Names that stand for parameters in addresses.
const (
	pTestbed, pNode, pJob, pImage, pStream = "{testbed}", "{node}", "{job}", "{image}", "{stream}"
)

// address turns a subject that was constructed from parameters back: braces
// are escaped in it.
func address(subject string) string {
	for _, p := range []string{pTestbed, pNode, pJob, pImage, pStream} {
		subject = strings.ReplaceAll(subject, events.Escape(p), p)
	}
	return subject
}

func jobFactKinds() []events.Kind {
	return []events.Kind{
		events.KindJobRequested, events.KindJobAccepted, events.KindJobRejected,
		events.KindImageServed, events.KindJobFinished, events.KindJobCancelled,
	}
}

func nodeFactKinds() []events.Kind {
	return []events.Kind{
		events.KindRebootRequested, events.KindPxeUp, events.KindLoadStarted, events.KindLoadDone, events.KindLoadFailed,
		events.KindSaveStarted, events.KindSaveDone, events.KindSaveFailed,
		events.KindShutdownRequested, events.KindShutdownDone, events.KindRebootDone, events.KindNodeFailed, events.KindCredentialMisused,
	}
}

func imageFactKinds() []events.Kind {
	return []events.Kind{events.KindImageAdded, events.KindImageServed, events.KindImageReleased, events.KindImageDamaged}
}

func leaseKinds() []events.Kind {
	return []events.Kind{events.KindLeased, events.KindReleased, events.KindProtected, events.KindUnprotected}
}

// timerPayload is what schedules and wake-ups carry, for people.
type timerPayload struct {
	At string `json:"at"`
}

// channels lists every channel of the vocabulary.
func channels() []channel {
	const handler, agent, frisbee, power, anyone, broker = "handler", "agent", "image service", "power of the node", "whoever is allowed", "broker"
	all := []channel{
		{name: "req.load", address: events.RequestSubject(pTestbed, events.VerbLoad), about: "An image is wanted on nodes. Plain JSON data are accepted as well.", by: anyone, to: handler, kind: events.KindLoadRequest},
		{name: "req.save", address: events.RequestSubject(pTestbed, events.VerbSave), about: "The disk of a node is wanted as an image. Plain JSON data are accepted as well.", by: anyone, to: handler, kind: events.KindSaveRequest},
		{name: "req.cancel", address: events.RequestSubject(pTestbed, events.VerbCancel), about: "A job is to end. Plain JSON data are accepted as well.", by: anyone, to: handler, kind: events.KindCancelRequest},
	}
	for _, k := range events.ReportKinds() {
		all = append(all, channel{name: "rpt." + string(k), address: events.ReportSubject(pTestbed, pNode, k), about: "What a node says about itself.", by: agent, to: handler, kind: k})
	}
	all = append(all, channel{name: "rpt.credential.misused", address: events.ReportSubject(pTestbed, pNode, events.KindCredentialMisused), about: "A credential of a boot was asked for that is not to be had.", by: "whoever hands out the credentials of boots", to: handler, kind: events.KindCredentialMisused})
	for _, k := range jobFactKinds() {
		all = append(all, channel{name: "evt.job." + string(k), address: events.JobFactSubject(pTestbed, pJob, k), about: "A fact of a job.", by: handler, to: anyone, kind: k})
	}
	for _, k := range nodeFactKinds() {
		all = append(all, channel{name: "evt.node." + string(k), address: events.NodeFactSubject(pTestbed, pJob, pNode, k), about: "A fact of a node in a job.", by: handler, to: anyone, kind: k})
	}
	for _, k := range leaseKinds() {
		all = append(all, channel{name: "evt.leases." + string(k), address: events.LeasesSubject(pTestbed), about: "A fact of the leases of a testbed: one aggregate, one subject.", by: handler, to: anyone, kind: k})
	}
	for _, k := range imageFactKinds() {
		all = append(all, channel{name: "evt.image." + string(k), address: events.ImageFactSubject(pTestbed, pImage, k), about: "A fact of an image.", by: frisbee, to: anyone, kind: k})
	}
	all = append(all,
		channel{name: "tlm.progress", address: events.ProgressSubject(pTestbed, pJob, pNode), about: "Telemetry of a load; may be lost.", by: agent, to: anyone, kind: events.KindProgress},
		channel{name: "tlm.save.progress", address: events.SaveProgressSubject(pTestbed, pJob, pNode), about: "Telemetry of a save; may be lost.", by: agent, to: anyone, kind: events.KindSaveProgress},
		channel{name: "tlm.boot.stage", address: events.BootSubject(pTestbed, pNode), about: "Telemetry of a network boot; may be lost.", by: "boot service", to: anyone, kind: events.KindBootStage},
	)

	ask := func(name, subject, about, by, to string, request, reply any) {
		all = append(all, channel{name: name, address: subject, about: about, by: by, to: to, payload: request, reply: reply})
	}
	for _, c := range []struct {
		verb    events.Verb
		about   string
		request any
	}{
		{events.VerbLoad, "Load an image.", events.LoadCommand{}},
		{events.VerbSave, "Save a disk as an image.", events.SaveCommand{}},
		{events.VerbStop, "End what is done for a job.", events.StopCommand{}},
		{events.VerbReboot, "Reboot the machine, after the last report is acknowledged.", events.LeaveCommand{}},
		{events.VerbHalt, "Power the machine off, after the last report is acknowledged.", events.LeaveCommand{}},
		{events.VerbProbe, "Say what the agent is doing.", events.Empty{}},
	} {
		ask("cmd."+string(c.verb), events.CommandSubject(pTestbed, pNode, c.verb), c.about, handler, agent, c.request, events.CommandReply{})
	}
	for _, c := range []struct {
		verb           string
		about          string
		request, reply any
	}{
		{events.FrisbeeServe, "A session of an image, for a lease.", events.ServeRequest{}, events.ImageServed{}},
		{events.FrisbeeRelease, "Give a lease back.", events.LeaseRelease{}, events.Empty{}},
		{events.FrisbeeStatus, "The sessions, and the clients of one.", events.StatusQuery{}, events.FrisbeeState{}},
		{events.FrisbeeCheck, "Whether an image exists and is intact.", events.ImageQuery{}, events.Image{}},
		{events.FrisbeeImages, "The catalogue.", events.Empty{}, events.ImageList{}},
		{events.FrisbeeAdd, "Take a file of the image directory into the catalogue.", events.ImageQuery{}, events.Image{}},
		{events.FrisbeeVerify, "Read a whole image again.", events.ImageQuery{}, events.Image{}},
		{events.FrisbeeInspect, "What is in an image.", events.ImageQuery{}, events.ImageDetail{}},
		{events.FrisbeeRemove, "Remove an image.", events.ImageQuery{}, events.Empty{}},
		{events.FrisbeeUpload, "The permission to upload an image over HTTP.", events.UploadQuery{}, events.UploadPermit{}},
		{events.FrisbeeReceive, "A place to send a new image to, for a lease.", events.ReceiveRequest{}, events.Place{}},
		{events.FrisbeeAbandon, "Give a place up, with what has come to it.", events.LeaseRelease{}, events.Empty{}},
		{events.FrisbeePlaces, "The places that new images are sent to.", events.Empty{}, events.PlaceList{}},
	} {
		ask("svc.frisbee."+c.verb, events.FrisbeeSubject(pTestbed, c.verb), c.about, anyone, frisbee, c.request, c.reply)
	}
	for _, c := range []struct {
		verb           string
		about          string
		request, reply any
	}{
		{events.HandlerStatus, "The handler itself.", events.Empty{}, events.HandlerState{}},
		{events.HandlerNodes, "The nodes.", events.NodesQuery{}, events.NodeList{}},
		{events.HandlerJobs, "The jobs, newest first.", events.Empty{}, events.JobList{}},
		{events.HandlerJob, "One job.", events.JobQuery{}, events.JobDetail{}},
		{events.HandlerRelease, "Free nodes by hand.", events.NodesAction{}, events.NodeList{}},
		{events.HandlerProtect, "Have nodes refuse every job.", events.NodesAction{}, events.NodeList{}},
		{events.HandlerUnprotect, "Take a protection back.", events.NodesAction{}, events.NodeList{}},
		{events.HandlerPower, "Switch nodes that no job holds, or ask for their power.", events.PowerQuery{}, events.PowerReport{}},
		{events.HandlerNetboot, "Set, clear or ask for the boot flag of nodes that no job holds.", events.NetbootQuery{}, events.NetbootReport{}},
		{events.HandlerAgents, "Ask the agents of at most 256 nodes whether they are there.", events.NodesQuery{}, events.AgentReport{}},
	} {
		ask("svc.handler."+c.verb, events.HandlerSubject(pTestbed, c.verb), c.about, anyone, handler, c.request, c.reply)
	}
	for _, verb := range []string{events.PowerOn, events.PowerOff, events.PowerSoft, events.PowerReset, events.PowerCycle, events.PowerStatus} {
		ask("svc.power."+verb, events.PowerSubject(pTestbed, pNode, verb), "Power of a node; the same effect is acted on once.", handler, power, events.PowerRequest{}, events.PowerState{})
	}
	ask("svc.bus."+events.BusCredential, events.BusSubject(pTestbed, events.BusCredential), "The credential of a node.", anyone, broker, events.CredentialRequest{}, events.Credential{})

	all = append(all,
		channel{name: "timer.job", address: events.TimerSubject(pTestbed, pJob), about: "A schedule that wakes a job: the server publishes it on due.job at its time.", by: handler, to: broker, payload: timerPayload{}},
		channel{name: "due.job", address: events.DueSubject(pTestbed, pJob), about: "A wake-up of a job.", by: broker, to: handler, payload: timerPayload{}},
		channel{name: "dlq.message", address: events.SetAsideSubject(pStream), about: "A message that nobody could handle, as it came; the Loadnode-* headers say where from and why.", by: "its consumer", to: anyone},
	)
	for i := range all {
		all[i].address = address(all[i].address)
	}
	return all
}
