package compat

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// escape replaces what XML reserves, with the names the original uses (§b.2).
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;", `"`, "&quot;").Replace(strings.ToValidUTF8(s, "?"))
}

func send(w http.ResponseWriter, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = io.WriteString(w, body)
}

// fail sends an error page. Its readers look at the status; people look at the heading and the message.
func fail(w http.ResponseWriter, status int, message string) {
	title := http.StatusText(status)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<!DOCTYPE html>\n<HTML>\n  <HEAD><TITLE>%s</TITLE></HEAD>\n  <BODY>\n    <H1>%s</H1>\n    %s\n  </BODY>\n</HTML>\n",
		title, title, html.EscapeString(strings.ToValidUTF8(message, "?")))
}

// describeAll lists the groups.
func (s *Service) describeAll(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	b.WriteString("<?xml version='1.0'?><serviceGroups>")
	for _, g := range s.groups {
		fmt.Fprintf(&b, "<serviceGroup path='/%s' name='%s'><info>%s</info></serviceGroup>", g.name, g.name, escape(g.info))
	}
	b.WriteString("</serviceGroups>")
	send(w, "text/xml", b.String())
}

// width of descriptions, in characters.
const width = 80

// describe writes what a group can do, set in lines of 80 characters.
func describe(g group) string {
	d := &description{}
	d.b.WriteString("<?xml version='1.0'?>\n")
	d.element("services", "", func() {
		d.element("serviceGroup", fmt.Sprintf(" name='%s' prefix='/%s'", g.name, g.name), func() {
			d.info(g.info)
			for _, c := range g.calls {
				d.element("service", fmt.Sprintf(" name='%s'", c.name), func() {
					d.info(c.info)
					if len(c.args) == 0 {
						return
					}
					d.element("args", "", func() {
						for _, a := range c.args {
							d.element("arg", fmt.Sprintf(" name='%s' value='%s' isRequired='%t'", a.name, a.value, a.required), func() { d.info(a.info) })
						}
					})
				})
			}
		})
	})
	return strings.TrimSuffix(d.b.String(), "\n")
}

type description struct {
	b     strings.Builder
	depth int
}

func (d *description) line(s string) { d.b.WriteString(strings.Repeat("  ", d.depth) + s + "\n") }

func (d *description) element(name, attributes string, inside func()) {
	d.line("<" + name + attributes + ">")
	d.depth++
	inside()
	d.depth--
	d.line("</" + name + ">")
}

func (d *description) info(s string) {
	d.element("info", "", func() {
		line := ""
		for _, word := range strings.Fields(escape(s)) {
			switch {
			case line == "":
				line = word
			case 2*d.depth+len(line)+1+len(word) > width:
				d.line(line)
				line = word
			default:
				line += " " + word
			}
		}
		d.line(line)
	})
}
