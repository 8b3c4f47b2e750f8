package compat

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
)

// TestSaveImage: the texts of §b.3.
func TestSaveImage(t *testing.T) {
	w := newWorld()
	_, srv := start(t, w, func(c *Config) { c.Now = func() time.Time { return w.now } })
	hear := func(path, want string) {
		t.Helper()
		status, kind, body := get(t, srv, "/saveimage/"+path)
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, "text/xml", kind)
		require.Equal(t, want, body, path)
	}
	place := func(image string) *events.Place {
		t.Helper()
		for _, p := range w.places {
			if p.Image == image {
				return p
			}
		}
		t.Fatalf("no place for %s", image)
		return nil
	}
	hear("status", "<OK>No saveimage (netcat) daemons are running</OK>")
	hear("status?img=a.ndz", "<OK>Not currently saving to 'a.ndz'</OK>")
	hear("stop?img=a.ndz", "<ERROR>Not currently saving to &apos;a.ndz&apos;</ERROR>")
	hear("getAddress?domain=default&img=a.ndz&user=ann", "<OK>10.0.0.200:9000</OK>")
	hear("getAddress?img=a.ndz&user=bob", "<OK>10.0.0.200:9000</OK>")
	hear("getAddress?img=b.ndz", "<OK>10.0.0.200:9001</OK>")
	require.Len(t, w.requests, 2)
	require.True(t, w.requests[0].Plain)
	require.Equal(t, "ann", w.requests[0].Provenance.Requester)
	require.Equal(t, DefaultSaveOwner, w.requests[1].Provenance.Requester)
	hear("status", "<saveimage_status><daemon img='a.ndz' port='9000' timeLeft='1800.0' user='ann'/><daemon img='b.ndz' port='9001' timeLeft='1800.0' user='nobody'/></saveimage_status>")
	hear("status?img=b.ndz", "<saveimage_status><daemon img='b.ndz' port='9001' timeLeft='1800.0' user='nobody'/></saveimage_status>")

	hear("stop?img=a.ndz", "<OK>Stopped saving to 'a.ndz' at 10.0.0.200:9000</OK>")
	require.Equal(t, events.PlaceFailed, place("a.ndz").State)
	place("b.ndz").State = events.PlaceReceiving
	hear("stop?img=b.ndz", "<OK>Stopped saving to 'b.ndz' at 10.0.0.200:9001</OK>")
	require.Equal(t, events.PlaceReceiving, place("b.ndz").State, "what comes is not thrown away")
	hear("getAddress?img=b.ndz", "<ERROR>it is being saved already</ERROR>")
	place("b.ndz").State = events.PlaceStored
	hear("status", "<OK>No saveimage (netcat) daemons are running</OK>")

	hear("getAddress?img=four.ndz", "<ERROR>File &apos;four.ndz&apos; already exists!</ERROR>")
	for _, c := range []string{"/", ";", ":", "%26", "$", "|"} {
		if c == ";" {
			c = "%3B"
		}
		hear("getAddress?img=x"+c+"y.ndz", "<ERROR>Found unsafe characters in parameter &apos;img&apos;</ERROR>")
	}
	hear("getAddress?img=bad%20name", "<ERROR>not a name</ERROR>")
	hear("getAddress?img=c.ndz&user=a%20b", "<ERROR>Found unsafe characters in parameter &apos;user&apos;</ERROR>")
	hear("getAddress?img=c.ndz&user=root", "<ERROR>Images cannot be saved as user &apos;root&apos;</ERROR>")
	status, _, body := get(t, srv, "/saveimage/getAddress")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "Missing parameter &#39;img&#39;")

	for i := range 3 {
		get(t, srv, fmt.Sprintf("/saveimage/getAddress?img=n%d.ndz", i))
	}
	status, _, body = get(t, srv, "/saveimage/getAddress?img=n3.ndz")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "Max. number of daemons reached")
	place("n0.ndz").State = events.PlaceFailed // it expired
	hear("getAddress?img=n3.ndz", fmt.Sprintf("<OK>%s</OK>", fmt.Sprintf("10.0.0.200:%d", 9000+len(w.places))))
	_, _, body = get(t, srv, "/saveimage")
	require.Contains(t, body, "<service name='getAddress'>")
}
