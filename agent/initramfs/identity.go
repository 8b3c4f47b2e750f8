package initramfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"loadnode/events"
)

// Bounds of an answer of the boot service.
const (
	maxAnswer   = 64 << 10 // bytes
	answerTime  = 10 * time.Second
	answerPause = time.Second
	answerMax   = 10 * time.Second
)

// ErrRefused says that the boot service knows this machine and will not help
// it, for instance since its credential was delivered already. Asking again
// would be another alarm.
var ErrRefused = errors.New("the boot service refuses")

// fetchIdentity asks the boot service who this machine is until it answers.
func fetchIdentity(ctx context.Context, client *http.Client, base *url.URL, mac string, log *slog.Logger) (events.BootConfig, error) {
	u := *base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/boot/config"
	u.RawQuery = url.Values{"mac": {mac}}.Encode()
	for pause := answerPause; ; pause = min(2*pause, answerMax) {
		c, err := askIdentity(ctx, client, u.String())
		if err == nil || errors.Is(err, ErrRefused) || ctx.Err() != nil {
			return c, err
		}
		log.Warn("the boot service does not help yet", "url", u.String(), "err", err)
		select {
		case <-ctx.Done():
			return c, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func askIdentity(ctx context.Context, client *http.Client, u string) (events.BootConfig, error) {
	var c events.BootConfig
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return c, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c, err
	case resp.StatusCode == http.StatusConflict, resp.StatusCode == http.StatusForbidden, resp.StatusCode == http.StatusGone:
		return c, fmt.Errorf("%w: %s: %.200s", ErrRefused, resp.Status, strings.TrimSpace(string(body)))
	case resp.StatusCode != http.StatusOK:
		return c, fmt.Errorf("%s: %.200s", resp.Status, strings.TrimSpace(string(body)))
	case len(body) > maxAnswer:
		return c, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("answer: %w", err)
	}
	return c, nil
}
