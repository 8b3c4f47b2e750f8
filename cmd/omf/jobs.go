package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

func lower(s string) string { return strings.ToLower(s) }

func (a *app) jobsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "jobs", Short: "List the jobs, newest first", Args: words(0, "no words"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.client(c.Context(), func(conn *bus.Conn) error {
				var l events.JobList
				if err := a.askHandler(c.Context(), conn, events.HandlerJobs, events.Empty{}, &l); err != nil {
					return err
				}
				return a.printJobs(l)
			})
		},
	}
}

func (a *app) printJobs(l events.JobList) error {
	switch a.output {
	case "json":
		return a.printJSON(l)
	case "jsonl":
		return printEach(a, l.Jobs)
	}
	var rows [][]string
	for _, j := range l.Jobs {
		state := j.State
		if j.Outcome != "" {
			state = string(j.Outcome)
		}
		if j.Alarms > 0 {
			state += " (alarm)"
		}
		rows = append(rows, []string{
			j.Job, state, imageOf(j), strconv.Itoa(j.Nodes), strconv.Itoa(j.OK), strconv.Itoa(j.Failed),
			stamp(j.Requested), j.Requester,
		})
	}
	return display.Table(a.stdout, []string{"JOB", "STATE", "IMAGE", "NODES", "OK", "FAILED", "REQUESTED", "BY"}, rows)
}

// imageOf is the image of a job in a table: what has a blank is not a name.
func imageOf(j events.JobSummary) string {
	if j.Save {
		return strings.TrimSpace(j.Image + " (save)")
	}
	return j.Image
}

// printEach writes each value as a line.
func printEach[T any](a *app, values []T) error {
	for _, v := range values {
		if err := a.printJSON(v); err != nil {
			return err
		}
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func (a *app) jobCommand() *cobra.Command {
	show := &cobra.Command{
		Use: "show JOB", Short: "Show a job with its nodes", Args: words(1, "one job"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := jobID(args[0])
			if err != nil {
				return err
			}
			return a.client(c.Context(), func(conn *bus.Conn) error {
				var d events.JobDetail
				if err := a.askHandler(c.Context(), conn, events.HandlerJob, events.JobQuery{Job: id}, &d); err != nil {
					return err
				}
				return a.printJob(d)
			})
		},
	}
	var detach bool
	var reason string
	cancel := &cobra.Command{
		Use: "cancel JOB", Short: "End a job", Args: words(1, "one job"),
		Long: `Cancel ends a job: nothing new is begun, nodes at work are told to stop. It
waits until the job has ended and its nodes are free (--detach: until the
request is stored).`,
		RunE: func(c *cobra.Command, args []string) error {
			id, err := jobID(args[0])
			if err != nil {
				return err
			}
			return a.client(c.Context(), func(conn *bus.Conn) error { return a.cancel(c.Context(), conn, id, reason, detach) })
		},
	}
	cancel.Flags().BoolVar(&detach, "detach", false, "do not wait for the end of the job")
	cancel.Flags().StringVar(&reason, "reason", "", "why, for people")
	placeholder(cancel.Flags(), "reason", "TEXT")
	return group("job", "Show or cancel a job", show, cancel)
}

func (a *app) cancel(ctx context.Context, conn *bus.Conn, id, reason string, detach bool) error {
	var d events.JobDetail
	if err := a.askHandler(ctx, conn, events.HandlerJob, events.JobQuery{Job: id}, &d); err != nil {
		return err
	}
	if d.Result != nil || d.Reject != nil {
		return &exit{code: exitRefused, err: fmt.Errorf("job %s has ended already: %s", id, endOf(d))}
	}
	j, f := a.job(conn, id)
	if detach {
		f.until = func(*display.Job) bool { return true }
	}
	err := f.run(ctx, func(ctx context.Context) error { return a.requestCancel(ctx, conn, id, reason) })
	switch {
	case errors.Is(err, errDetached):
		return a.detached(j, exitInterrupted)
	case err != nil:
		return err
	case detach:
		return a.detached(j, exitOK)
	}
	// What was asked for is the end of the job: that it is cancelled is success.
	code := exitOK
	if j.Result != nil && j.Result.Outcome != events.OutcomeCancelled {
		code = exitOf(j)
	}
	return a.finish(j, code)
}

func endOf(d events.JobDetail) string {
	if d.Reject != nil {
		return "refused, " + d.Reject.Message
	}
	return string(d.Result.Outcome)
}

// requestCancel publishes the request to end a job.
func (a *app) requestCancel(ctx context.Context, conn *bus.Conn, id, reason string) error {
	req := events.CancelRequest{Job: id, Reason: reason, Requester: who()}
	rid, err := newID(a.now())
	if err != nil {
		return err
	}
	ev, err := events.New(events.Meta{
		ID: rid, Source: events.Source(a.testbed(), "cli", req.Requester), Subject: events.SubjectAttr(id, ""), Time: a.now(),
	}, req)
	if err != nil {
		return fmt.Errorf("cancel job %s: %w", id, err)
	}
	if _, err := conn.Publish(ctx, events.RequestSubject(a.testbed(), events.VerbCancel), ev); err != nil {
		return fmt.Errorf("cancel job %s: %w", id, err)
	}
	return nil
}

func (a *app) printJob(d events.JobDetail) error {
	if a.output != "text" {
		return a.printJSON(d)
	}
	state := d.State
	if d.Outcome != "" {
		state += ", " + string(d.Outcome)
	}
	rows := [][]string{
		{"job", d.Job}, {"state", state}, {"image", d.Image}, {"nodes", d.Request.Nodes},
		{"requested", stamp(d.Requested)}, {"by", d.Requester},
	}
	if d.Save != nil {
		rows[2], rows[3] = []string{"saves", d.Save.Node}, []string{"as", d.Image}
	}
	if d.Plan != nil {
		rows = append(rows, []string{"deadline", stamp(d.Plan.Deadline)}, []string{"then", string(d.Plan.Then)})
	}
	if d.Served != nil {
		s := d.Served.Session
		rows = append(rows, []string{"session", fmt.Sprintf("%s:%d from %s", s.Group, s.Port, s.Server)})
	}
	if !d.Ended.IsZero() {
		rows = append(rows, []string{"ended", stamp(d.Ended)})
	}
	if d.Alarms > 0 {
		rows = append(rows, []string{"alarms", fmt.Sprintf("%d, see the nodes; docs/trust.md says what they mean", d.Alarms)})
	}
	if d.Reject != nil {
		rows = append(rows, []string{"refused", d.Reject.Message}, []string{"", d.Reject.Hint})
	}
	for _, r := range rows {
		if len(r[1]) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(a.stdout, "%-10s %s\n", r[0], display.Clean(r[1])); err != nil {
			return err
		}
	}
	if len(d.Members) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	return printMembers(a.stdout, d.Members, a.columns())
}

// printMembers writes a table of the nodes of a job. What went wrong stands
// below a node, with what to do about it.
func printMembers(w io.Writer, members []events.JobNode, width int) error {
	var rows []display.Row
	for _, m := range members {
		row := display.Row{Cells: []string{m.Node, m.State, strconv.Itoa(m.Attempt), stamp(m.Since), ""}}
		switch r := m.Result; {
		case r == nil:
		case r.OK:
			row.Cells[4] = cmp.Or(string(r.Assurance), "ok")
			row.Notes = append(row.Notes, display.Afterwards(r.Grown, r.Personalised))
		default:
			row.Cells[4], row.Notes = string(r.Class), []string{r.Error, display.Hint(r.Hint)}
		}
		if m.Alarms > 0 {
			row.Notes = append(row.Notes, fmt.Sprintf("alarm %d: %s", m.Alarms, cmp.Or(m.Alarm, "what was asked for is no longer kept")))
		}
		rows = append(rows, row)
	}
	return display.Rows(w, []string{"NODE", "STATE", "ATTEMPT", "SINCE", "RESULT"}, rows, width)
}
