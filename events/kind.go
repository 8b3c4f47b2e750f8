package events

import (
	"reflect"
	"strings"
)

// Kind says in words what an event tells ("load.done"). The CloudEvents type,
// the subject and the Go type carry the same words.
type Kind string

// Kinds of requests.
const (
	KindLoadRequest   Kind = "load.request"
	KindSaveRequest   Kind = "save.request"
	KindCancelRequest Kind = "cancel.request"
	KindPowerRequest  Kind = "power.request"
)

// Kinds of job facts.
const (
	KindJobRequested Kind = "job.requested"
	KindJobAccepted  Kind = "job.accepted"
	KindJobRejected  Kind = "job.rejected"
	KindJobCancelled Kind = "job.cancelled"
	KindJobFinished  Kind = "job.finished"
)

// Kinds of node facts, in the order of a node's life in a job. The kinds
// load.… and save.… are reports as well.
const (
	KindRebootRequested   Kind = "reboot.requested"
	KindPxeUp             Kind = "pxe.up"
	KindLoadStarted       Kind = "load.started"
	KindLoadDone          Kind = "load.done"
	KindLoadFailed        Kind = "load.failed"
	KindSaveStarted       Kind = "save.started"
	KindSaveDone          Kind = "save.done"
	KindSaveFailed        Kind = "save.failed"
	KindShutdownRequested Kind = "shutdown.requested"
	KindShutdownDone      Kind = "shutdown.done"
	KindRebootDone        Kind = "reboot.done"
	KindNodeFailed        Kind = "node.failed"
)

// Kinds of reports.
const (
	KindUp      Kind = "up"
	KindLeaving Kind = "leaving"
	// KindCredentialMisused is reported about a node, never by one. It is a fact
	// of the node as well.
	KindCredentialMisused Kind = "credential.misused"
)

// ReportKinds lists the kinds that a node may report: its credential allows
// exactly these.
func ReportKinds() []Kind {
	return []Kind{
		KindUp, KindLoadStarted, KindLoadDone, KindLoadFailed,
		KindSaveStarted, KindSaveDone, KindSaveFailed, KindLeaving,
	}
}

// Kinds of image facts. image.served is a fact of a job as well.
const (
	KindImageAdded    Kind = "image.added"
	KindImageServed   Kind = "image.served"
	KindImageReleased Kind = "image.released"
	KindImageDamaged  Kind = "image.damaged"
)

// Kinds on the leases aggregate.
const (
	KindLeased      Kind = "leased"
	KindReleased    Kind = "released"
	KindProtected   Kind = "protected"
	KindUnprotected Kind = "unprotected"
)

// Kinds of telemetry.
const (
	KindProgress     Kind = "progress"      // of a load
	KindSaveProgress Kind = "save.progress" // of a save
	KindBootStage    Kind = "boot.stage"    // of a network boot
)

const (
	typePrefix = "loadnode."
	typeSuffix = ".v1"
)

// Type is the CloudEvents type of the kind: "loadnode.load.done.v1".
func (k Kind) Type() string { return typePrefix + string(k) + typeSuffix }

// KindOfType is the inverse of Type; ok is false for types of others and for
// other major versions.
func KindOfType(t string) (k Kind, ok bool) {
	w, ok := strings.CutPrefix(t, typePrefix)
	if !ok {
		return "", false
	}
	w, ok = strings.CutSuffix(w, typeSuffix)
	return Kind(w), ok && w != ""
}

// Data is the payload of an event of one kind.
type Data interface {
	// Kind returns the kind that this struct is the data of.
	Kind() Kind
}

// Vocabulary lists one zero value for each kind, in the order in which the
// documents list them.
func Vocabulary() []Data {
	return []Data{
		LoadRequest{}, SaveRequest{}, CancelRequest{},
		JobRequested{}, JobAccepted{}, JobRejected{}, JobCancelled{}, JobFinished{},
		RebootRequested{}, PxeUp{}, LoadStarted{}, LoadDone{}, LoadFailed{},
		SaveStarted{}, SaveDone{}, SaveFailed{},
		ShutdownRequested{}, ShutdownDone{}, RebootDone{}, NodeFailed{},
		Up{}, Leaving{}, CredentialMisused{},
		ImageAdded{}, ImageServed{}, ImageReleased{}, ImageDamaged{},
		Leased{}, Released{}, Protected{}, Unprotected{},
		Progress{}, SaveProgress{}, BootStage{},
	}
}

func newData(k Kind) (reflect.Value, bool) {
	for _, d := range Vocabulary() {
		if d.Kind() == k {
			return reflect.New(reflect.TypeOf(d)), true
		}
	}
	return reflect.Value{}, false
}
