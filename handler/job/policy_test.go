package job_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/handler/job"
)

func TestQuorum(t *testing.T) {
	for _, tt := range []struct {
		require string
		n, want int // 0: refused
	}{
		{"", 7, 7}, {"95%", 20, 19}, {"95%", 10, 10}, {"1%", 3, 1}, {"100%", 3, 3}, {"2", 3, 2}, {"3", 3, 3},
		{"4", 3, 0}, {"0", 3, 0}, {"0%", 3, 0}, {"101%", 3, 0}, {"-1", 3, 0}, {"+5%", 3, 0}, {"5.5%", 3, 0}, {"%", 3, 0}, {"many", 3, 0}, {" 2", 3, 0},
	} {
		got, e := job.Quorum(tt.require, tt.n)
		require.Equal(t, tt.want, got, tt.require)
		require.Equal(t, tt.want == 0, e != nil, tt.require)
	}
}

func TestCheck(t *testing.T) {
	good := events.LoadRequest{Nodes: "all", Image: "a.ndz"}
	require.Nil(t, job.Check(good))
	for name, change := range map[string]func(*events.LoadRequest){
		"nodes":       func(r *events.LoadRequest) { r.Nodes = " " },
		"image":       func(r *events.LoadRequest) { r.Image = "" },
		"then":        func(r *events.LoadRequest) { r.Then = "explode" },
		"verify":      func(r *events.LoadRequest) { r.Verify = "twice" },
		"require":     func(r *events.LoadRequest) { r.Require = "most" },
		"weight":      func(r *events.LoadRequest) { r.Weight = 101 },
		"resize":      func(r *events.LoadRequest) { r.Resize = "smaller" },
		"personalise": func(r *events.LoadRequest) { r.Personalise = &events.Personalise{} },
	} {
		r := good
		change(&r)
		e := job.Check(r)
		require.NotNil(t, e, name)
		require.Equal(t, events.CodeBadRequest, e.Code)
		require.Contains(t, e.Message, name)
	}
}

func TestBudgetsFollowTheImage(t *testing.T) {
	p := job.Policy{LinkRate: 8_000_000, DiskRate: 1_000_000, LoadFactor: 2, LoadMargin: time.Second}
	img := events.Image{Size: 10_000_000, DataBytes: 20_000_000}
	require.Equal(t, 61*time.Second, time.Duration(p.Budgets(img, "").Load))
	require.Equal(t, 101*time.Second, time.Duration(p.Budgets(img, events.VerifyReadback).Load))
	require.Equal(t, job.DefaultPolicy().CheckIn, time.Duration(p.Budgets(img, "").CheckIn))
}

func TestPlan(t *testing.T) {
	w := job.Wish{Request: events.LoadRequest{Nodes: "all", Image: "a"}, Nodes: nodes(5), Image: image, Now: start}
	p, e := policy().Plan(jobID, w)
	require.Nil(t, e)
	require.Equal(t, events.ThenShutdown, p.Then)
	require.Equal(t, 5, p.Quorum)
	// Three waves of two boots of a minute, three loads, two leaves.
	b := p.Budgets
	require.Equal(t, start.Add(3*2*time.Minute+3*(30*time.Second+time.Duration(b.Load))+2*20*time.Second), p.Deadline)
	w.Request.Timeout = events.Duration(time.Hour)
	p, _ = policy().Plan(jobID, w)
	require.Equal(t, start.Add(time.Hour), p.Deadline)
	w.Nodes = nil
	_, e = policy().Plan(jobID, w)
	require.Equal(t, events.CodeNode, e.Code)
	w.Nodes = nodes(job.MaxNodes + 1)
	_, e = policy().Plan(jobID, w)
	require.Equal(t, events.CodeBadRequest, e.Code)
}
