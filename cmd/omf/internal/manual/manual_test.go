package manual_test

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/manual"
)

const usage = `tool [options] INPUT OUTPUT
tool -i INPUT

Copies INPUT. It's "quoted", back\slashed and ~ends^ with
.dots at the start of a line.

  tool a b
      deeper

  tool c d

What to copy:
  -s N          only part N, as
                long as it is there
  --resize SIZE make it larger
  -d            more words
  --long-option VALUE  far out
  --drop
              leave out

How:
  -v, -h        version, help

Exit code: 0, or 1 for any error.
`

const page = `.TH "TOOL" 1 "2026\-11\-23" "loadnode 1.0" "loadnode"
.nr HY 0
.nh
.ad l
.SH "NAME"
tool \- copies INPUT
.SH "SYNOPSIS"
.nf
tool [options] INPUT OUTPUT
tool \-i INPUT
.fi
.SH "DESCRIPTION"
.PP
Copies INPUT. It\(aqs \(dqquoted\(dq, back\(rsslashed and \(tiends\(ha with
\&.dots at the start of a line.
.PP
.RS 2
.EX
tool a b
    deeper

tool c d
.EE
.RE
.SH "WHAT TO COPY"
.TP
\fB\-s\fR \fIN\fR
only part N, as long as it is there
.TP
\fB\-\-resize\fR \fISIZE\fR
make it larger
.TP
\fB\-d\fR
more words
.TP
\fB\-\-long\-option\fR \fIVALUE\fR
far out
.TP
\fB\-\-drop\fR
leave out
.SH "HOW"
.TP
\fB\-v\fR, \fB\-h\fR
version, help
.SH "NOTES"
.PP
Exit code: 0, or 1 for any error.
`

func head(name string) manual.Head {
	return manual.Head{Name: name, Section: 1, Version: "1.0", Date: "2026-11-23"}
}

func TestUsage(t *testing.T) {
	p, err := manual.Usage(head("tool"), usage)
	require.NoError(t, err)
	var b bytes.Buffer
	n, err := p.WriteTo(&b)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	require.Equal(t, page, b.String())
}

func TestUsageRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":         "",
		"another":       usage[1:],
		"no more":       "tool [options]\n",
		"not UTF-8":     "tool\n\n\xff\n",
		"too long":      "tool\n\n" + strings.Repeat("x", manual.MaxUsage),
		"only its name": "tool",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manual.Usage(head("tool"), text)
			require.ErrorIs(t, err, manual.ErrUsage)
		})
	}
}

// requests are what pages may ask of the formatter.
var requests = regexp.MustCompile(`^\.(TH|SH|TP|PP|RS|RE|EX|EE|nf|fi|nr|nh|ad)\b`)

// FuzzUsage: whatever a program prints, nothing of it is taken for a request
// of the formatter, and no character is lost from what is not blank.
func FuzzUsage(f *testing.F) {
	f.Add(usage)
	f.Add("tool\n\n'bad\n.so /etc/passwd\n\\fBx\n  -x\n.\n")
	f.Add("tool x\n\n  -\n    \n:\n\nX:\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := manual.Usage(head("tool"), text)
		if err != nil {
			require.ErrorIs(t, err, manual.ErrUsage)
			return
		}
		var b bytes.Buffer
		_, err = p.WriteTo(&b)
		require.NoError(t, err)
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, ".") {
				require.Regexp(t, requests, line)
			}
			require.False(t, strings.HasPrefix(line, "'"), line)
		}
	})
}

// TestFormatter: groff has nothing to complain about.
func TestFormatter(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed: .ci/run installs it")
	}
	p, err := manual.Usage(head("tool"), usage)
	require.NoError(t, err)
	var b, out, complaints bytes.Buffer
	_, err = p.WriteTo(&b)
	require.NoError(t, err)
	cmd := exec.Command(groff, "-ww", "-man", "-Tutf8", "-P-cbou")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &b, &out, &complaints
	require.NoError(t, cmd.Run())
	require.Empty(t, complaints.String())
	require.Contains(t, out.String(), `It's "quoted", back\slashed and ~ends^ with .dots at the`)
}
