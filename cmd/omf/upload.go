package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
	"loadnode/frisbeesvc/catalogue"
)

const (
	// uploadTries is how often an upload is taken up again without a byte of
	// progress in between.
	uploadTries = 5
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 1 << 20
)

func (a *app) uploadCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "upload FILE", Short: "Send an image to the server", Args: words(1, "one file"),
		Long: `Upload sends an image to the image service over HTTP and has it checked there. A
broken connection is taken up where it broke off, also by the same command
again. It asks for the permission on the bus, for these bytes under this name;
with --http on the server's own machine it needs no bus.

The name of an image is made of 0-9 A-Z a-z . _ - and may have one
sub-directory: ubuntu.ndz, lab/ubuntu-24.04.ndz.`,
		RunE: func(c *cobra.Command, args []string) error { return a.upload(c.Context(), args[0], name) },
	}
	c.Flags().StringVar(&name, "name", "", "name of the image (default: that of the file)")
	placeholder(c.Flags(), "name", "NAME")
	a.setting(c.Flags(), "http", "", config.KeyHTTP, "URL")
	return c
}

// upload is one file on its way to the server.
type upload struct {
	url    string
	file   *os.File
	size   int64
	digest string // the Repr-Digest of the file
	owner  string
	client *http.Client
	// permit asks for the permission to upload; "" where it may go without.
	permit func(context.Context) (token string, err error)
}

func (a *app) upload(ctx context.Context, file, name string) error {
	// The rules are those of the catalogue; a name that breaks them would be
	// refused only after the whole file was read and sent.
	if name == "" {
		name = filepath.Base(file)
		if err := catalogue.CheckName(name); err != nil {
			return &exit{code: exitUsage, err: err, hint: "give the image another name than the file's with --name"}
		}
	}
	if err := catalogue.CheckName(name); err != nil {
		return usagef("--name: %w", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return usagef("%w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return usagef("%w", err)
	}
	if !st.Mode().IsRegular() || st.Size() == 0 {
		return usagef("%s: want a file with something in it", file)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	u := &upload{
		file: f, size: st.Size(), owner: who(),
		digest: "sha-256=:" + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + ":",
		client: &http.Client{Transport: &http.Transport{}},
	}
	defer u.client.CloseIdleConnections()
	base, err := a.namedHTTP()
	if err != nil {
		return err
	}
	if base != nil {
		u.url = base.JoinPath("v1", "images", name).String()
	}
	var without error // why there is no permit
	u.permit = func(ctx context.Context) (string, error) {
		p, err := a.uploadPermit(ctx, events.UploadQuery{Image: name, Digest: hex.EncodeToString(sum.Sum(nil))})
		if base == nil {
			u.url = p.URL
			return p.Token, err
		}
		without = err // on its own machine the image service takes it all the same
		return p.Token, nil
	}
	img, err := u.run(ctx)
	var refusal *events.Error
	if without != nil && errors.As(err, &refusal) && refusal.Code == events.CodeRefused {
		return &exit{code: exitRefused, err: fmt.Errorf("%w; a permit was not to be had: %w", err, without), hint: classify(without).hint}
	}
	if err != nil {
		return err
	}
	return a.printAdded(img)
}

// namedHTTP is where the settings say that the image service takes files, nil
// if they do not say.
func (a *app) namedHTTP() (*url.URL, error) {
	v := a.cfg.Get(config.KeyHTTP)
	if v.Text == "" {
		return nil, nil
	}
	base, err := httpURL(v.Text)
	if err != nil {
		return nil, usagef("http %q (%s): %w", v.Text, v.Origin, err)
	}
	return base, nil
}

// uploadPermit asks the image service whether it takes an image, and where.
func (a *app) uploadPermit(ctx context.Context, q events.UploadQuery) (p events.UploadPermit, err error) {
	err = a.client(ctx, func(conn *bus.Conn) error { return a.askImages(ctx, conn, events.FrisbeeUpload, q, &p) })
	if err != nil {
		return p, err
	}
	if _, err := httpURL(p.URL); err != nil {
		return p, &exit{
			code: exitUnreachable, err: fmt.Errorf("the image service of testbed %q names no HTTP address of its own (%q)", a.testbed(), p.URL),
			hint: "name it with --http URL",
		}
	}
	return p, nil
}

func httpURL(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, errors.New("want a URL such as http://server:5012")
	}
	return base, nil
}

// run sends the file, and again from where it broke off.
func (u *upload) run(ctx context.Context) (events.Image, error) {
	token, err := u.permit(ctx)
	if err != nil {
		return events.Image{}, err
	}
	at, err := u.begun(ctx)
	if err != nil {
		return events.Image{}, err
	}
	for tries := 0; ; {
		img, next, err := u.send(ctx, token, at)
		if err == nil {
			return img, nil
		}
		var answer *events.Error
		refused := errors.As(err, &answer) && !answer.Retryable && answer.Code != events.CodeUnavailable && next < 0
		if tries++; refused || tries == uploadTries || ctx.Err() != nil {
			return events.Image{}, err
		}
		if next < 0 {
			select {
			case <-time.After(time.Duration(tries) * 300 * time.Millisecond):
			case <-ctx.Done():
				return events.Image{}, ctx.Err()
			}
			// The service may be another one by now, or the permit at its end.
			if token, err = u.permit(ctx); err == nil {
				next, err = u.begun(ctx)
			}
			if err != nil {
				continue
			}
		}
		if next > at {
			tries = 0
		}
		at = next
	}
}

// begun tells where an upload that was begun before goes on.
func (u *upload) begun(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.url, nil)
	if err != nil {
		return 0, usagef("%w", err)
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return 0, unreachable(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Upload-Complete") != "?0" {
		return 0, nil
	}
	return u.offset(resp), nil
}

// offset is what the server says that it has; 0 where that makes no sense.
func (u *upload) offset(resp *http.Response) int64 {
	n, err := strconv.ParseInt(resp.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || n < 0 || n > u.size {
		return 0
	}
	return n
}

// send sends the file from at on. Where the server wants to go on elsewhere,
// next says where; else it is -1.
func (u *upload) send(ctx context.Context, token string, at int64) (img events.Image, next int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.url, io.NewSectionReader(u.file, at, u.size-at))
	if err != nil {
		return img, -1, usagef("%w", err)
	}
	req.ContentLength = u.size - at
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Repr-Digest", u.digest)
	req.Header.Set("X-Owner", u.owner)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	switch {
	case at == u.size:
		req.Body, req.ContentLength = http.NoBody, 0
		req.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", u.size))
	case at > 0:
		req.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, u.size-1, u.size))
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return img, -1, unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return img, -1, unreachable(err)
	}
	switch {
	case resp.StatusCode == http.StatusCreated:
		if err := json.Unmarshal(body, &img); err != nil {
			return img, -1, fmt.Errorf("answer of %s: %w", u.url, err)
		}
		return img, -1, nil
	case resp.Header.Get("Upload-Offset") != "":
		return img, u.offset(resp), fmt.Errorf("upload to %s: the server goes on at another place", u.url)
	}
	var answer struct{ Error *events.Error }
	if json.Unmarshal(body, &answer) == nil && answer.Error != nil {
		return img, -1, fmt.Errorf("upload %s: %w", display.Clean(u.file.Name()), answer.Error)
	}
	return img, -1, fmt.Errorf("upload to %s: the server answers %s", u.url, strings.TrimSpace(resp.Status))
}

// unreachable says that the server's HTTP does not answer.
func unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &exit{code: exitUnreachable, err: err, hint: "is this where the image service is reached from here? name another address with --http URL"}
}
