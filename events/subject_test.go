package events_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
)

func TestSubjects(t *testing.T) {
	for subject, want := range map[string]string{
		events.RequestSubject("default", events.VerbLoad):                       "omf.v1.req.default.load",
		events.ReportSubject("default", "omf.nicta.node1", events.KindLoadDone): "omf.v1.rpt.default.node.omf_2enicta_2enode1.load.done",
		events.NodeReports("default", "n1-2"):                                   "omf.v1.rpt.default.node.n1-2.>",
		events.JobFactSubject("default", "01j", events.KindJobFinished):         "omf.v1.evt.default.job.01j.job.finished",
		events.NodeFactSubject("default", "01j", "n1-2", events.KindPxeUp):      "omf.v1.evt.default.job.01j.node.n1-2.pxe.up",
		events.JobFacts("default", "01j"):                                       "omf.v1.evt.default.job.01j.>",
		events.NodeFacts("default", "a.b"):                                      "omf.v1.evt.default.job.a_2eb.node.>",
		events.LeasesSubject("default"):                                         "omf.v1.evt.default.leases",
		events.ImageFactSubject("default", "a.ndz", events.KindImageAdded):      "omf.v1.evt.default.image.a_2endz.image.added",
		events.ImageFacts("default", "a.ndz"):                                   "omf.v1.evt.default.image.a_2endz.>",
		events.AllImageFacts("default"):                                         "omf.v1.evt.default.image.>",
		events.TestbedFacts("default"):                                          "omf.v1.evt.default.>",
		events.ProgressSubject("default", "01j", "n1-2"):                        "omf.v1.tlm.default.job.01j.node.n1-2.progress",
		events.SaveProgressSubject("default", "01j", "n1-2"):                    "omf.v1.tlm.default.job.01j.node.n1-2.save.progress",
		events.BootSubject("default", "n1-2"):                                   "omf.v1.tlm.default.node.n1-2.boot.stage",
		events.JobProgress("default", "01j"):                                    "omf.v1.tlm.default.job.01j.>",
		events.NodeProgress("default", "n1-2"):                                  "omf.v1.tlm.default.job.*.node.n1-2.progress",
		events.NodeSaveProgress("default", "n1-2"):                              "omf.v1.tlm.default.job.*.node.n1-2.save.progress",
		events.CommandSubject("default", "n1-2", events.VerbHalt):               "omf.v1.cmd.default.node.n1-2.halt",
		events.NodeCommands("default", "n1-2"):                                  "omf.v1.cmd.default.node.n1-2.*",
		events.FrisbeeSubject("default", events.FrisbeeServe):                   "omf.v1.svc.default.frisbee.serve",
		events.HandlerSubject("default", events.HandlerJobs):                    "omf.v1.svc.default.handler.jobs",
		events.PowerSubject("default", "n1-2", events.PowerOff):                 "omf.v1.svc.default.power.n1-2.off",
		events.NodePower("default", "n1-2"):                                     "omf.v1.svc.default.power.n1-2.*",
		events.BusSubject("default", events.BusCredential):                      "omf.v1.svc.default.bus.credential",
		events.TimerSubject("default", "01j"):                                   "omf.v1.timer.default.job.01j",
		events.DueSubject("default", "01j"):                                     "omf.v1.due.default.job.01j",
		events.SetAsideSubject("OMF_REQ"):                                       "omf.v1.dlq._4f_4d_46_5f_52_45_51",
		events.RequestSubject("a.b>", "load"):                                   "omf.v1.req.a_2eb_3e.load",
	} {
		require.Equal(t, want, subject)
	}
}

// TestSubjectRoundTrip parses what every constructor makes of any names.
func TestSubjectRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.Custom(func(t *rapid.T) string {
			return string(rapid.SliceOfN(rapid.Byte(), 1, events.MaxNameLen).Draw(t, "name"))
		})
		tb, job, node, image := name.Draw(t, "testbed"), name.Draw(t, "job"), name.Draw(t, "node"), name.Draw(t, "image")
		var kinds []events.Kind
		for _, d := range events.Vocabulary() {
			kinds = append(kinds, d.Kind())
		}
		k := rapid.SampledFrom(kinds).Draw(t, "kind")
		v := rapid.SampledFrom([]events.Verb{events.VerbLoad, events.VerbCancel, events.VerbProbe}).Draw(t, "verb")
		for subject, want := range map[string]events.Address{
			events.RequestSubject(tb, v):              {Tree: "req", Testbed: tb, Verb: v},
			events.ReportSubject(tb, node, k):         {Tree: "rpt", Testbed: tb, Node: node, Kind: k},
			events.JobFactSubject(tb, job, k):         {Tree: "evt", Testbed: tb, Job: job, Kind: k},
			events.NodeFactSubject(tb, job, node, k):  {Tree: "evt", Testbed: tb, Job: job, Node: node, Kind: k},
			events.LeasesSubject(tb):                  {Tree: "evt", Testbed: tb, Leases: true},
			events.ImageFactSubject(tb, image, k):     {Tree: "evt", Testbed: tb, Image: image, Kind: k},
			events.ProgressSubject(tb, job, node):     {Tree: "tlm", Testbed: tb, Job: job, Node: node, Kind: events.KindProgress},
			events.SaveProgressSubject(tb, job, node): {Tree: "tlm", Testbed: tb, Job: job, Node: node, Kind: events.KindSaveProgress},
			events.BootSubject(tb, node):              {Tree: "tlm", Testbed: tb, Node: node, Kind: events.KindBootStage},
			events.CommandSubject(tb, node, v):        {Tree: "cmd", Testbed: tb, Node: node, Verb: v},
			events.TimerSubject(tb, job):              {Tree: "timer", Testbed: tb, Job: job},
			events.DueSubject(tb, job):                {Tree: "due", Testbed: tb, Job: job},
		} {
			got, err := events.ParseSubject(subject)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NotContains(t, subject, " ")
		}
	})
}

func TestParseSubjectRefuses(t *testing.T) {
	for _, s := range []string{
		"", "omf", "omf.v1", "omf.v1.", "omf.v1.req", "omf.v1.req.tb", "omf.v1.req.tb.load.more", "omf.v1.req..load", "omf.v1.req.tb.",
		"omf.v2.req.tb.load", "omf.v1.req.TB.load", "omf.v1.req.tb.lo ad", "omf.v1.req.tb.>", "omf.v1.req.*.load",
		"omf.v1.rpt.tb.node.n", "omf.v1.rpt.tb.node.n.", "omf.v1.rpt.tb.node.n.load.>", "omf.v1.rpt.tb.nodes.n.up",
		"omf.v1.evt.tb", "omf.v1.evt.tb.job.j", "omf.v1.evt.tb.job.j.", "omf.v1.evt.tb.job.j.node.n.", "omf.v1.evt.tb.leases.more",
		"omf.v1.svc.tb.handler.jobs", "omf.v1.dlq.x", "omf.v1.req." + strings.Repeat("a", 3000) + ".load",
	} {
		a, err := events.ParseSubject(s)
		require.Error(t, err, s)
		require.Zero(t, a)
	}
	// A node called "failed" and the fact node.failed are not the same.
	a, err := events.ParseSubject(events.JobFactSubject("tb", "j", events.KindNodeFailed))
	require.NoError(t, err)
	require.Equal(t, events.Address{Tree: "evt", Testbed: "tb", Job: "j", Kind: events.KindNodeFailed}, a)
}

func FuzzParseSubject(f *testing.F) {
	f.Add("omf.v1.evt.default.job.01j.node.n1-2.load.done")
	f.Add("omf.v1.req.default.load")
	f.Add("omf.v1.rpt.a_2eb.node._4e.up")
	f.Add("omf.v1.evt.default.leases")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := events.ParseSubject(s)
		if err != nil {
			if a != (events.Address{}) {
				t.Fatalf("%q: an address with an error", s)
			}
			return
		}
		var back string
		switch {
		case a.Tree == "req":
			back = events.RequestSubject(a.Testbed, a.Verb)
		case a.Tree == "rpt":
			back = events.ReportSubject(a.Testbed, a.Node, a.Kind)
		case a.Leases:
			back = events.LeasesSubject(a.Testbed)
		case a.Tree == "evt" && a.Image != "":
			back = events.ImageFactSubject(a.Testbed, a.Image, a.Kind)
		case a.Tree == "evt" && a.Node != "":
			back = events.NodeFactSubject(a.Testbed, a.Job, a.Node, a.Kind)
		case a.Tree == "evt":
			back = events.JobFactSubject(a.Testbed, a.Job, a.Kind)
		case a.Tree == "tlm" && a.Job == "":
			back = strings.TrimSuffix(events.BootSubject(a.Testbed, a.Node), string(events.KindBootStage)) + string(a.Kind)
		case a.Tree == "tlm":
			back = events.ProgressSubject(a.Testbed, a.Job, a.Node)
		case a.Tree == "cmd":
			back = events.CommandSubject(a.Testbed, a.Node, a.Verb)
		case a.Tree == "timer":
			back = events.TimerSubject(a.Testbed, a.Job)
		case a.Tree == "due":
			back = events.DueSubject(a.Testbed, a.Job)
		}
		if back != s {
			t.Fatalf("%q is read as %+v, which stands at %q", s, a, back)
		}
	})
}
