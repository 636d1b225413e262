package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var awsEnv = command{name: "aws-env", summary: "print what the shell needs for the AWS command line to use this bridge",
	example: "tidemill-bridge aws-env\neval \"$(tidemill-bridge aws-env)\"; aws iot list-topic-rules",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		cfg, err := c.loadConfig()
		if err != nil {
			return err
		}
		listens := cfg.HTTPS.Listen
		if err := c.with(ctx, func(a *client) error {
			if !a.live {
				return nil
			}
			var info admin.Info
			err := a.do(ctx, "GET", "/v1/info", nil, nil, &info)
			listens = info.HTTPS
			return err
		}); err != nil {
			return err
		}
		endpoint, err := endpointURL(listens)
		if err != nil {
			return err
		}
		dir, err := filepath.Abs(filepath.Join(cfg.DataDir, "pki"))
		if err != nil {
			return err
		}
		// Keys in the environment would go before those of the file.
		b := "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE\n"
		ca := pki.CAFile(dir)
		if cfg.HTTPS.Cert != "" { // whose CA the system knows, or the user
			ca = ""
		}
		for _, v := range [][2]string{
			{"AWS_SHARED_CREDENTIALS_FILE", pki.AccessKeysFile(dir)}, {"AWS_CA_BUNDLE", ca},
			{"AWS_DEFAULT_REGION", cfg.Region}, {"AWS_REGION", cfg.Region}, {"AWS_ENDPOINT_URL", endpoint},
		} {
			if v[1] == "" {
				continue
			}
			b += "export " + v[0] + "=" + quoted(v[1]) + "\n"
		}
		b += "# Command lines before 1.29 and 2.13 also want: --endpoint-url \"$AWS_ENDPOINT_URL\"\n"
		_, err = fmt.Fprint(c.stdout, b)
		return err
	}}

// endpointURL is how a client on this machine reaches a listener.
func endpointURL(listens string) (string, error) {
	if listens == "" {
		return "", errors.New("https.listen: empty, so the AWS APIs are not served")
	}
	host, port, err := net.SplitHostPort(listens)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", errors.New("https.listen: port 0 is known when the bridge runs")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return "https://" + net.JoinHostPort(host, port), nil
}

// quoted is text as one word of a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
