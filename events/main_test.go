package events_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// update has the documents written instead of compared.
var update = flag.Bool("update", false, "write schema/ and asyncapi.yaml from the code")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}
