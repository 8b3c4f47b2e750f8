package bus

import "loadnode/events"

// Permissions is what a credential may do, in the terms of any NATS server:
// the embedded one and the auth callout of a cluster use the same template.
type Permissions struct {
	Publish   []string // subjects, with wildcards
	Subscribe []string // subjects, with wildcards
	Responses bool     // may answer the requests that it receives
}

// NodePermissions is what an agent may do: publish the reports of its own
// node and its own progress, receive its own commands and answer them. It has
// no part of JetStream's API; publishing with an acknowledgement needs none.
func NodePermissions(testbed, node string) Permissions {
	p := Permissions{
		Publish: []string{events.NodeProgress(testbed, node), events.NodeSaveProgress(testbed, node)},
		Subscribe: []string{
			events.NodeCommands(testbed, node),
			NodeInbox(testbed, node) + ".>",
		},
		Responses: true,
	}
	// One by one: with a wildcard, a node could fill the disk with subjects.
	for _, k := range events.ReportKinds() {
		p.Publish = append(p.Publish, events.ReportSubject(testbed, node, k))
	}
	return p
}

// ResidentPermissions is what the one who serves the power of a node may do:
// receive the requests for it and answer them.
func ResidentPermissions(testbed, node string) Permissions {
	return Permissions{
		Subscribe: []string{
			events.NodePower(testbed, node),
			ResidentInbox(testbed, node) + ".>",
		},
		Responses: true,
	}
}

// OperatorPermissions is what people and scripts may do: make requests, ask
// services, watch facts, reports, telemetry and what was set aside. They
// write no history and command no agent.
func OperatorPermissions() Permissions {
	p := Permissions{
		Publish: []string{
			events.AllRequests, events.AllServices,
			"$SRV.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.*",
		},
		Subscribe: []string{
			OperatorInbox + ".>",
			events.AllFacts, events.AllTelemetry, events.AllReports,
		},
	}
	for _, stream := range []string{StreamFacts, StreamReports, StreamTelemetry, StreamSetAside} {
		p.Publish = append(p.Publish,
			"$JS.API.CONSUMER.CREATE."+stream+".>",
			"$JS.API.CONSUMER.INFO."+stream+".*",
			"$JS.API.CONSUMER.DELETE."+stream+".*",
			"$JS.API.CONSUMER.MSG.NEXT."+stream+".*",
			"$JS.API.STREAM.MSG.GET."+stream,
			"$JS.API.DIRECT.GET."+stream, "$JS.API.DIRECT.GET."+stream+".>",
		)
	}
	return p
}

// ServicePermissions is what handlers and image services may do: everything.
func ServicePermissions() Permissions {
	return Permissions{Publish: []string{">"}, Subscribe: []string{">"}, Responses: true}
}

// Prefixes of the subjects for replies. Each party has its own, so that none
// hears the answers to another.
const (
	OperatorInbox = "_INBOX_OPERATOR"
	ServiceInbox  = "_INBOX_SERVICE"
)

// NodeInbox is the prefix for the replies to an agent.
func NodeInbox(testbed, node string) string {
	return "_INBOX_NODE." + events.Escape(testbed) + "." + events.Escape(node)
}

// ResidentInbox is the prefix for the replies to a resident agent.
func ResidentInbox(testbed, node string) string {
	return "_INBOX_RESIDENT." + events.Escape(testbed) + "." + events.Escape(node)
}
