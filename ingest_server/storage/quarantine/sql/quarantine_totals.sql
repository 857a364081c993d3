SELECT reason, count(*) FILTER (WHERE replayed_at IS NULL), COALESCE(sum(readings), 0)::bigint,
       COALESCE(sum(octet_length(payload)) FILTER (WHERE replayed_at IS NULL), 0)::bigint,
       count(DISTINCT gateway_id) FILTER (WHERE replayed_at IS NULL),
       min(received_at) FILTER (WHERE replayed_at IS NULL)::text,
       count(*) FILTER (WHERE replayed_at IS NOT NULL), COALESCE(sum(released), 0)::bigint
  FROM iot_service.quarantine
 GROUP BY reason
 ORDER BY reason
