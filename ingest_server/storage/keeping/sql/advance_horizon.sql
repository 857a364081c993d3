-- Two days ahead of what retention drops: it works by chunks, and by its own clock.
UPDATE iot_service.raw_horizon
   SET begins = GREATEST(begins, date_bin('1 day', timestamptz 'epoch' + %(now_us)s * interval '1 microsecond'
                                                   - (%(keep_days)s - 2) * interval '1 day', 'epoch'))
RETURNING begins::date::text
