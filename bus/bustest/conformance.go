package bustest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
)

// NodeMayNot tries everything that a hostile node n1-1 of the testbed of the
// harness would, with the connection of its agent, on a bus without history.
// Each refusal must be ErrDenied, at once, not a timeout; nothing of it may
// arrive. svc has the rights of a service. Every bus must pass: the embedded
// one, and a cluster with the callout.
func NodeMayNot(t *testing.T, node, svc *bus.Conn) {
	const tb = Testbed
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	made := func(id string, d events.Data) event.Event {
		ev, err := events.New(events.Meta{ID: id, Source: "/x", Time: time.Now()}, d)
		require.NoError(t, err)
		return ev
	}
	up := func(id, node string) event.Event {
		return made(id, events.Up{NodeRef: events.NodeRef{Node: node, Boot: "b"}})
	}
	job := "01j"
	_, err := svc.Append(ctx, events.JobFacts(tb, job), 0, bus.Record{
		Subject: events.JobFactSubject(tb, job, events.KindJobRequested), Event: made("f", events.JobRequested{Job: job}),
	})
	require.NoError(t, err)

	for _, subject := range []string{
		events.ReportSubject(tb, "n1-2", events.KindUp),
		events.ReportSubject("other", "n1-1", events.KindUp),
		events.ReportSubject(tb, "n1-1", "invented"),
		strings.TrimSuffix(events.NodeReports(tb, "n1-1"), ".>"),
		events.NodeFactSubject(tb, job, "n1-1", events.KindLoadDone),
		events.JobFactSubject(tb, job, events.KindJobFinished),
		events.LeasesSubject(tb),
		events.ImageFactSubject(tb, "a.ndz", events.KindImageDamaged),
		events.RequestSubject(tb, events.VerbLoad),
		events.ProgressSubject(tb, job, "n1-2"),
		events.TimerSubject(tb, job),
		events.DueSubject(tb, job),
		events.SetAsideSubject(bus.StreamReports),
		events.CommandSubject(tb, "n1-2", events.VerbReboot),
		events.CommandSubject(tb, "n1-1", events.VerbReboot),
		"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.x",
		"_INBOX_SERVICE.x", "_INBOX.x", bus.NodeInbox(tb, "n1-2") + ".x", bus.OperatorInbox + ".x",
	} {
		_, err := node.Publish(ctx, subject, up("i", "n1-1"))
		require.ErrorIs(t, err, bus.ErrDenied, subject)
	}
	for _, subject := range []string{
		"$JS.API.INFO", "$JS.API.STREAM.INFO.OMF_RPT", "$JS.API.STREAM.MSG.GET.OMF_EVT", "$JS.API.DIRECT.GET.OMF_TLM.x",
		"$JS.API.STREAM.PURGE.OMF_EVT", "$JS.API.CONSUMER.CREATE.OMF_EVT", "$JS.ACK.OMF_RPT.d.1.1.1.1.1", "$JS.FC.x",
		"$SRV.PING", "$SYS.REQ.SERVER.PING", "$KV.OMF_OWNERS.j",
		events.FrisbeeSubject(tb, events.FrisbeeServe), events.HandlerSubject(tb, events.HandlerJobs),
		events.PowerSubject(tb, "n1-1", events.PowerOff), events.BusSubject(tb, events.BusCredential),
	} {
		require.ErrorIs(t, node.Request(ctx, subject, nil, nil), bus.ErrDenied, subject)
	}
	for _, subject := range []string{
		">", "omf.>", "*.>", events.AllFacts, events.JobFacts(tb, job), events.AllReports, events.AllRequests, events.AllTelemetry,
		events.NodeCommands(tb, "n1-2"), events.NodeCommands(tb, "*"), events.CommandSubject(tb, "n1-2", events.VerbLoad),
		events.NodeReports(tb, "n1-1"), events.NodePower(tb, "n1-1"), events.AllServices,
		"_INBOX.>", "_INBOX_SERVICE.>", "_INBOX_NODE.>", "_INBOX_NODE.*.*.>", bus.NodeInbox(tb, "n1-2") + ".>", bus.OperatorInbox + ".>",
		"$JS.>", "$SRV.PING", "$SYS.>", "$KV.>",
	} {
		_, err := node.Subscribe(ctx, subject, func(bus.Message) {})
		require.ErrorIs(t, err, bus.ErrDenied, subject)
	}
	_, err = node.Serve(ctx, bus.ServiceConfig{Name: "x", Endpoints: []bus.Endpoint{{Name: "x", Subject: events.HandlerSubject(tb, "jobs")}}})
	require.ErrorIs(t, err, bus.ErrDenied)
	_, err = node.Serve(ctx, bus.ServiceConfig{Name: "x", Plain: true, Endpoints: []bus.Endpoint{{Name: "x", Subject: events.CommandSubject(tb, "n1-2", "load")}}})
	require.ErrorIs(t, err, bus.ErrDenied)
	require.ErrorIs(t, node.EnsureStreams(ctx, bus.StreamOptions{}), bus.ErrDenied)
	require.ErrorIs(t, node.AwaitStreams(ctx), bus.ErrDenied)
	_, err = node.Last(ctx, bus.StreamFacts, events.AllFacts)
	require.ErrorIs(t, err, bus.ErrDenied)
	_, err = node.Append(ctx, events.JobFacts(tb, job), 1, bus.Record{Subject: events.JobFactSubject(tb, job, "x"), Event: up("i", "n1-1")})
	require.ErrorIs(t, err, bus.ErrDenied)
	require.ErrorIs(t, node.Schedule(ctx, tb, job, time.Now()), bus.ErrDenied)
	require.ErrorIs(t, node.CancelSchedule(ctx, tb, job), bus.ErrDenied)
	_, err = node.Owners(ctx, time.Minute)
	require.ErrorIs(t, err, bus.ErrDenied)

	// Nothing of all this arrived.
	require.Len(t, All(t, svc, bus.StreamFacts, ">"), 1)
	require.Empty(t, All(t, svc, bus.StreamReports, ">"))
	require.Empty(t, All(t, svc, bus.StreamTelemetry, ">"))
}
