package telemetry

import (
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	"go.uber.org/zap/zapgrpc"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// Redirect makes log the destination of everything that libraries write through
// loggers of the process as a whole: klog (client-go and the scheduler
// framework), the standard library's log, gRPC, and OpenTelemetry's own errors.
// It is for a main function, before any goroutine is started; those loggers
// have no lock.
func Redirect(log *slog.Logger) {
	slog.SetDefault(log)
	klog.SetSlogLogger(log)
	// gRPC tells of every connection it tries; those who dial report failures.
	grpc := zap.New(zapCore{handler: log.With("logger", "grpc").Handler(), level: slog.LevelError})
	grpclog.SetLoggerV2(zapgrpc.NewLogger(grpc))
	otel.SetLogger(logr.FromSlogHandler(log.With("logger", "otel").Handler()))
	otel.SetErrorHandler(&errorHandler{log: log})
}

// errorHandler logs what goes wrong when spans are sent. A collector that is
// away fails every few seconds for as long as it is away: one line in quiet
// tells as much.
type errorHandler struct {
	log *slog.Logger

	mu         sync.Mutex
	next       time.Time
	suppressed int
}

// quiet is the time between two lines about failed telemetry.
const quiet = time.Minute

func (h *errorHandler) Handle(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.next) {
		h.suppressed++
		return
	}
	h.log.Warn("telemetry is not delivered; scheduling goes on without it", "error", err, "suppressed", h.suppressed)
	h.next, h.suppressed = time.Now().Add(quiet), 0
}
