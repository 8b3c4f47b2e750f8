package handler

import (
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// Whatever a script sends as a plain request is decoded or refused with a
// reason; what passes the checks can be planned for.
func FuzzPlainRequest(f *testing.F) {
	for _, s := range []string{
		`{"nodes":"[1,1]","image":"a.ndz"}`, `{"nodes":"all","image":"a","require":"95%","timeout":800,"ttl":"5m"}`,
		`{"nodes":"all","image":"a","dry_runn":true}`, `{}`, `{"nodes":[1]}`, `{"timeout":-1}`, `{"timeout":"1e9h"}`, `null`, `{"a":{"b":[`,
	} {
		f.Add([]byte(s))
	}
	f.Add([]byte(`{"node":"[1,1]","image":"a.ndz","level":9,"then":"stay"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		plainSave(t, data)
		r, err := decode[events.LoadRequest](bus.Message{Plain: data})
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		if e := job.Check(r); e != nil {
			require.NotEmpty(t, e.Message)
			return
		}
		plan, e := job.DefaultPolicy().Plan("j", job.Wish{Request: r, Nodes: []events.PlannedNode{{Name: "n"}}})
		if e != nil {
			require.Equal(t, events.CodeBadRequest, e.Code)
			return
		}
		require.Equal(t, 1, plan.Quorum)
	})
}

func plainSave(t *testing.T, data []byte) {
	r, err := decode[events.SaveRequest](bus.Message{Plain: data})
	if err != nil {
		require.NotEmpty(t, err.Error())
		return
	}
	plan, e := job.DefaultPolicy().PlanSave("j", job.SaveWish{Request: r, Node: events.PlannedNode{Name: "n"}})
	if e != nil {
		require.Equal(t, events.CodeBadRequest, e.Code)
		return
	}
	require.NotNil(t, plan.Save)
	require.Positive(t, plan.Budgets.Load)
}
