package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/sealmq/sealmq/api/proxyapi"
	"github.com/sealmq/sealmq/internal/clock"
)

// PortalURL is the portal's address.
func (d *Demo) PortalURL() string { return "https://" + d.main.process.PortalAddr }

// SetupLink is the portal's page on which the first administrator chooses a password.
func (d *Demo) SetupLink(ctx context.Context) (string, error) {
	c, closeIdle, err := d.mainClient()
	if err != nil {
		return "", err
	}
	defer closeIdle()
	r, err := c.MakeSetupLinkWithResponse(ctx)
	if err != nil {
		return "", fmt.Errorf("make a setup link: %w", err)
	}
	if r.JSON201 == nil {
		return "", fmt.Errorf("make a setup link: the main server answered %s", r.HTTPResponse.Status)
	}
	return d.PortalURL() + "/setup?" + url.Values{"token": {r.JSON201.Token}}.Encode(), nil
}

// trafficPause is the longest time between two messages of Traffic.
const trafficPause = 2 * time.Second

// Traffic submits messages until ctx ends, so that the pages of the portal have something to
// show.
func (d *Demo) Traffic(ctx context.Context) error {
	client, closeIdle, err := d.proxyClient(OtherClient)
	if err != nil {
		return err
	}
	defer closeIdle()
	for i := 1; ; i++ {
		if clock.Sleep(ctx, clock.System, rand.N(trafficPause)) != nil {
			return nil
		}
		m := proxyapi.Submission{SenderNumber: fmt.Sprintf("+49152%08d", rand.IntN(100_000_000)), MessageID: fmt.Sprintf("parcel-%d", i), MessageBody: "Your parcel has arrived."}
		// What goes wrong is on the pages too.
		if _, err := client.SubmitMessageWithResponse(ctx, nil, m); errors.Is(err, context.Canceled) {
			return nil
		}
	}
}
