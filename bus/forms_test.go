package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// TestConsumeForgedStatus stores what looks like word of the server to a
// client library: an empty message with a status header.
func TestConsumeForgedStatus(t *testing.T) {
	h := bustest.Start(t)
	node, c := h.ConnectNode(t, "n6-6"), h.Connect(t)
	for _, status := range []string{"100", "400", "404", "408", "409", "503"} {
		m := nats.NewMsg(events.ReportSubject(tb, "n6-6", events.KindUp))
		m.Header.Set("Status", status)
		m.Header.Set("Description", "Consumer Deleted")
		_, err := node.JetStream().PublishMsg(within(t), m)
		require.NoError(t, err)
	}
	_, err := c.Publish(within(t), events.ReportSubject(tb, "n1-1", events.KindUp), report(t, "n1-1"))
	require.NoError(t, err)
	seen := make(chan string, 16)
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamReports, Durable: "d", Workers: 1}, func(_ context.Context, m bus.Message) error {
		seen <- m.Address.Node
		return m.Err
	})
	for range 6 {
		require.Equal(t, "n6-6", take(t, seen))
	}
	require.Equal(t, "n1-1", take(t, seen))
	require.Len(t, bustest.All(t, c, bus.StreamReports, events.AllReports), 7, "a watch is not fooled either")
	require.EventuallyWithT(t, func(ct *assertT) {
		require.Equal(ct, uint64(6), c.Stats().SetAside)
	}, bustest.Patience, 10*time.Millisecond)
}

// TestRequestForms publishes a request in every form that is accepted.
func TestRequestForms(t *testing.T) {
	h := bustest.Start(t)
	c := h.Connect(t)
	seen := make(chan bus.Message, 8)
	consuming(t, c, bus.ConsumeConfig{Stream: bus.StreamRequests, Durable: "d", Workers: 1}, func(_ context.Context, m bus.Message) error {
		seen <- m
		return m.Err
	})
	publish := func(data string, headers ...string) bus.Message {
		m := nats.NewMsg(events.RequestSubject(tb, events.VerbLoad))
		m.Data = []byte(data)
		for i := 0; i < len(headers); i += 2 {
			m.Header[headers[i]] = []string{headers[i+1]}
		}
		require.NoError(t, c.NATS().PublishMsg(m))
		return take(t, seen)
	}
	plain := publish(`{"nodes":"[1,1]","image":"a.ndz"}`)
	require.NoError(t, plain.Err)
	require.JSONEq(t, `{"nodes":"[1,1]","image":"a.ndz"}`, string(plain.Plain))
	require.Equal(t, bus.StreamRequests, plain.Stream)
	require.NotZero(t, plain.Seq)

	structured := publish(`{"specversion":"1.0","id":"i","source":"/s","type":"loadnode.load.request.v1","data":{"nodes":"[1,1]","image":"a.ndz"}}`)
	require.NoError(t, structured.Err)
	require.Nil(t, structured.Plain)
	d, err := events.Decode(structured.Event)
	require.NoError(t, err)
	require.Equal(t, "a.ndz", d.(events.LoadRequest).Image)

	binary := publish(`{"nodes":"[1,1]","image":"b.ndz"}`, "CE-Id", "i%20j", "Ce-Source", "/s", "ce-type", "loadnode.load.request.v1", "ce-specversion", "1.0")
	require.NoError(t, binary.Err)
	require.Equal(t, "i j", binary.Event.ID())
	d, err = events.Decode(binary.Event)
	require.NoError(t, err)
	require.Equal(t, "b.ndz", d.(events.LoadRequest).Image)

	// What claims to be an event and is none is not taken for plain data.
	bad := publish(`{"specversion":"1.0","nodes":"[1,1]"}`)
	require.ErrorIs(t, bad.Err, bus.ErrUndecodable)
	require.Nil(t, bad.Plain)
}
