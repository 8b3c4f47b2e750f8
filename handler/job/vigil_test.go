package job_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/events"
	"loadnode/handler/job"
)

const silence = time.Minute

// watched is the effect of a node that loads as attempt 2 on boot b1.
var watched = job.Effect{What: job.DoProbe, Node: "n1-1", Attempt: 2, Boot: "b1", Step: job.Loading}

func answer(jobID string, attempt int, boot string, imaging bool) *events.CommandReply {
	return &events.CommandReply{NodeRef: events.NodeRef{Job: jobID, Node: "n1-1", Attempt: attempt, Boot: boot}, State: "idle", Imaging: imaging}
}

func TestVigilSilence(t *testing.T) {
	const on, off = events.PowerOn, events.PowerOff
	// A look: the seconds since the start, and what it finds.
	type look struct {
		at    int
		found string // on, off, "" (unknown), heard, word, blind, disk
	}
	for _, tt := range []struct {
		name  string
		looks []look
		want  string // evidence at the last look; empty: not lost
	}{
		{"one look", []look{{0, off}}, ""},
		{"off, two looks", []look{{0, off}, {1, off}}, "no word from the agent for 1s; power off"},
		{"off after it was on", []look{{0, on}, {15, off}}, "no word from the agent for 15s; power off"},
		{"on, before the silence is over", []look{{0, on}, {20, on}, {40, on}, {59, on}}, ""},
		{"on, after it", []look{{0, on}, {20, on}, {40, on}, {61, on}}, "no word from the agent for 61s; power on"},
		{"its own disk runs", []look{{0, "disk"}, {20, "disk"}, {61, "disk"}}, "no word from the agent for 61s; power on; the node runs its own disk (boot b9)"},
		{"its own disk hastens nothing", []look{{0, "disk"}, {20, "disk"}, {59, "disk"}}, ""},
		{"unknown", []look{{5, ""}, {30, ""}, {65, ""}}, "no word from the agent for 60s; power unknown"},
		{"long, in two looks", []look{{0, on}, {3600, on}}, ""},
		{"heard in between", []look{{0, on}, {30, on}, {59, "heard"}, {62, on}, {90, on}, {121, on}}, ""},
		{"a word in between", []look{{0, on}, {30, on}, {59, "word"}, {62, on}, {90, on}, {121, on}}, ""},
		{"cut off in between", []look{{0, on}, {30, on}, {59, "blind"}, {62, on}, {90, on}, {121, on}}, ""},
		{"cut off in between, and then long", []look{{0, on}, {30, "blind"}, {62, on}, {90, on}, {122, on}}, "no word from the agent for 60s; power on"},
		{"off, heard in between", []look{{0, off}, {1, "heard"}, {2, off}}, ""},
		{"off, cut off in between", []look{{0, off}, {1, "blind"}, {2, off}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v job.Vigil
			for i, l := range tt.looks {
				seen := job.Look{At: start.Add(time.Duration(l.at) * time.Second)}
				switch l.found {
				case "heard":
					seen.Reply = answer(jobID, 2, "b1", true)
				case "word":
					seen.Word = true
				case "blind":
					seen.Blind = true
				case "disk":
					seen.Power, seen.Disk = on, "b9"
				default:
					seen.Power = l.found
				}
				var in job.Input
				v, in = v.See(jobID, watched, seen, silence)
				if i < len(tt.looks)-1 || tt.want == "" {
					require.Nil(t, in, "look %d", i)
					continue
				}
				require.Equal(t, job.Lost{Node: "n1-1", Attempt: 2, Gone: true, Message: "the agent vanished: " + tt.want, Evidence: tt.want}, in)
			}
		})
	}
}

func TestVigilAnswers(t *testing.T) {
	up := watched
	up.Step = job.Up
	for _, tt := range []struct {
		name  string
		e     job.Effect
		reply *events.CommandReply
		want  string // lost, gone, up; empty: nothing
	}{
		{"at the load", watched, answer(jobID, 2, "b1", true), ""},
		{"idle", watched, answer("", 0, "b1", true), "lost"},
		{"at another attempt", watched, answer(jobID, 1, "b1", true), "lost"},
		{"at another job", watched, answer("other", 2, "b1", true), "lost"},
		{"idle, and not known to have begun", up, answer("", 0, "b1", true), ""},
		{"another boot", watched, answer("", 0, "b2", true), "up"},
		{"another boot, before the load", up, answer("", 0, "b2", true), "up"},
		{"its own disk", watched, answer("", 0, "b2", false), "gone"},
		{"no boot named", watched, answer("", 0, "", false), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, in := job.Vigil{}.See(jobID, tt.e, job.Look{At: start, Reply: tt.reply}, silence)
			got := ""
			switch in := in.(type) {
			case job.Lost:
				require.NotEmpty(t, in.Message)
				got = map[bool]string{false: "lost", true: "gone"}[in.Gone]
			case job.Report:
				require.True(t, in.Confirmed)
				require.Equal(t, events.Up{NodeRef: events.NodeRef{Node: "n1-1", Boot: "b2"}, Imaging: true}, in.Data)
				got = "up"
			}
			require.Equal(t, tt.want, got)
		})
	}
}

// Whatever the looks find: a node that may be on is never given up before
// nothing was heard of it for the whole silence, with the bus there all along.
func TestVigilIsPatient(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var v job.Vigil
		now := start
		var quiet time.Time // of the first unanswered look; zero: none
		for range rapid.IntRange(1, 40).Draw(rt, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "seconds")) * time.Second)
			l := job.Look{At: now, Power: rapid.SampledFrom([]string{"on", "unknown", ""}).Draw(rt, "power")}
			switch rapid.IntRange(0, 9).Draw(rt, "found") {
			case 0:
				l.Reply = answer(jobID, 2, "b1", true)
			case 1:
				l.Word = true
			case 2:
				l.Blind = true
			}
			if l.Reply != nil || l.Word || l.Blind {
				quiet = time.Time{}
			} else if quiet.IsZero() {
				quiet = now
			}
			var in job.Input
			v, in = v.See(jobID, watched, l, silence)
			if in != nil {
				require.False(rt, quiet.IsZero())
				require.GreaterOrEqual(rt, now.Sub(quiet), silence)
				return
			}
		}
	})
}
