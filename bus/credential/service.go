package credential

import (
	"context"
	"fmt"

	"loadnode/bus"
	"loadnode/events"
)

// Serve answers events.BusSubject(testbed, events.BusCredential) on conn: who
// may ask services gets the lasting credential of any node, for simulated nodes
// and for the bridge to legacy ones. Nodes may not ask. ca is handed out with
// it.
func Serve(ctx context.Context, conn *bus.Conn, secret *Secret, testbed, ca string) (*bus.Service, error) {
	return conn.Serve(ctx, bus.ServiceConfig{
		Name:        "omf-bus",
		Version:     "1.0.0",
		Description: "credentials of nodes",
		Endpoints: []bus.Endpoint{{
			Name:    "credential",
			Subject: events.BusSubject(testbed, events.BusCredential),
			Handle: func(_ context.Context, r bus.Request) (any, error) {
				var q events.CredentialRequest
				if err := r.Decode(&q); err != nil {
					return nil, err
				}
				if err := events.CheckName(q.Node); err != nil {
					return nil, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("node %q: %v", q.Node, err)}
				}
				if q.Kind != events.CredentialNode && q.Kind != events.CredentialResident {
					return nil, &events.Error{
						Code:    events.CodeBadRequest,
						Message: fmt.Sprintf("credential of kind %q: want %s or %s", q.Kind, events.CredentialNode, events.CredentialResident),
					}
				}
				c := secret.Credential(q.Kind, testbed, q.Node)
				c.CA = ca
				return c, nil
			},
		}},
	})
}
