package api

import (
	"compress/gzip"
	"net/http"
	"strings"
)

// minCompressed is how long a body has to be for compression, in bytes, as in the core.
const minCompressed = 1400

// compressed has an answer compressed if the client takes that and it is long enough. After
// compressResponse in pkg/webservice/gzip.go of yunikorn-core.
func compressed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !acceptsGzip(r) {
			next(w, r)
			return
		}
		c := &compressor{ResponseWriter: w}
		next(c, r)
		c.close()
	}
}

// acceptsGzip reads Accept-Encoding as the core does.
func acceptsGzip(r *http.Request) bool {
	for token := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, parameter, _ := strings.Cut(token, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return strings.TrimSpace(parameter) != "q=0"
		}
	}
	return false
}

// compressor keeps the beginning of an answer until it knows whether that is all.
type compressor struct {
	http.ResponseWriter
	status int
	kept   []byte
	gz     *gzip.Writer // once there is more
}

func (c *compressor) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

func (c *compressor) Write(b []byte) (int, error) {
	if c.gz != nil {
		return c.gz.Write(b)
	}
	c.kept = append(c.kept, b...)
	if len(c.kept) < minCompressed {
		return len(b), nil
	}
	c.Header().Set("Content-Encoding", "gzip")
	c.Header().Add("Vary", "Accept-Encoding")
	c.sendStatus()
	c.gz, _ = gzip.NewWriterLevel(c.ResponseWriter, gzip.BestSpeed) // a valid level
	if _, err := c.gz.Write(c.kept); err != nil {
		return 0, err
	}
	c.kept = nil
	return len(b), nil
}

func (c *compressor) sendStatus() {
	if c.status != 0 {
		c.ResponseWriter.WriteHeader(c.status)
	}
}

// close ends the answer. If the client has gone, nobody is left to tell.
func (c *compressor) close() {
	if c.gz != nil {
		_ = c.gz.Close()
		return
	}
	c.sendStatus()
	_, _ = c.ResponseWriter.Write(c.kept)
}
